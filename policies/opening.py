"""Opening a stored version: the engine that the configuration names, and the policy on top of it."""

from __future__ import annotations

from collections.abc import Mapping

from policies.policy import ModelPolicy
from policies.text.chat import ChatCodec
from policies.versions.checkpoints import PLAIN_TEMPLATES, foundation, load_codec, load_model
from policies.versions.stored import StoredVersion
from svd_loop.config.engines import (
    ModelEngineSection,
    ServerEngineSection,
    TransformersEngineSection,
    VllmEngineSection,
)
from svd_loop.config.sections import ModelSection
from svd_loop.contracts import Engine, Message, Role, Sampling

_PROBE_QUESTIONS = (
    "What is 17 * 23? Work it out step by step, then write the answer alone on the last line.",
    "Write a Python function `reverse(items)` that returns a reversed copy of a list.",
    "Why does ice float on water?",
)
"""What engines in other processes are compared on after loading; some hundred tokens, fixed for ever."""


def open_policy(
    stored: StoredVersion,
    *,
    samplings: Mapping[Role, Sampling],
    engine_settings: ModelEngineSection,
    model_settings: ModelSection,
    job_seed: int,
    held_out: Sampling | None = None,
) -> ModelPolicy:
    """The policy of a stored version, ready to answer.

    Args:
        stored: as `WeightStore.load` gives it.
        samplings: sampling parameters by role.
        engine_settings: which engine, and how it runs.
        model_settings: precision, device, templates and context length.
        job_seed: the job's seed.
        held_out: sampling parameters of held-out measurement; None takes the solver's.

    Raises:
        ModelError: the checkpoint, its tokenizer or the device cannot be used.
        EngineError: the engine's process failed.
    """
    codec = load_codec(stored, plain=model_settings.templates == PLAIN_TEMPLATES, thought=model_settings.thought)
    engine = open_engine(stored, codec, engine_settings, model_settings)
    return ModelPolicy(
        engine,
        codec,
        stored.version,
        samplings,
        job_seed=job_seed,
        max_context=model_settings.max_context,
        held_out=held_out,
    )


def open_engine(
    stored: StoredVersion, codec: ChatCodec, settings: ModelEngineSection, model_settings: ModelSection
) -> Engine:
    """An engine that runs a stored version.

    Raises:
        ConfigError: the engine is not installed, or a server's key is not set.
        ModelError: the checkpoint or the device cannot be used, or a server does not serve the version.
        EngineError: the engine's process failed, or no server answers.
    """
    if isinstance(settings, TransformersEngineSection):
        from policies.engines.transformers import TransformersEngine

        return TransformersEngine(
            load_model(stored, dtype=model_settings.dtype, device=model_settings.device),
            stop_ids=codec.stop_ids,
            pad_id=codec.pad_id,
            batch_size=settings.batch_size,
            threads=settings.threads,
        )
    from policies.engines.vllm import Served, VllmEngine

    version = stored.version
    name = f"{version.name}-{version.fingerprint[:12]}"
    served = Served(foundation(stored), name, version.round, stored.path if stored.kind == "lora" else None)
    probe = codec.encode([(Message("user", text),) for text in _PROBE_QUESTIONS])
    dtype, max_context = model_settings.dtype, model_settings.max_context
    match settings:
        case VllmEngineSection():
            return VllmEngine(
                served, settings, dtype=dtype, max_context=max_context, stop_ids=codec.stop_ids, probe_prompts=probe
            )
        case ServerEngineSection():
            from policies.engines.served.server import ServerEngine

            return ServerEngine(
                served, settings, dtype=dtype, max_context=max_context, stop_ids=codec.stop_ids, probe_prompts=probe
            )

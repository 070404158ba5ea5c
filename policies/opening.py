"""Open a stored version: build the configured engine, and the policy on top of it."""

from __future__ import annotations

from collections.abc import Mapping

from policies.policy import ModelPolicy
from policies.text.chat import ChatCodec
from policies.versions.checkpoints import PLAIN_TEMPLATES, load_codec
from policies.versions.stored import StoredVersion
from svd_loop.config.engines import ENGINES, EngineSection
from svd_loop.config.sections import ModelSection
from svd_loop.contracts import Engine, RoleName, Sampling


def open_policy(
    stored: StoredVersion,
    *,
    samplings: Mapping[RoleName, Sampling],
    engine_settings: EngineSection,
    model_settings: ModelSection,
    job_seed: int,
    held_out: Sampling | None = None,
) -> ModelPolicy:
    """Build the policy of a stored version.

    Args:
        stored: from `WeightStore.load`.
        samplings: sampling parameters by role.
        engine_settings: which engine, and how it runs.
        model_settings: precision, device, templates and context length.
        job_seed: the job's seed.
        held_out: sampling parameters of held-out measurement; None means the solver's.

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
    stored: StoredVersion, codec: ChatCodec, settings: EngineSection, model_settings: ModelSection
) -> Engine:
    """An engine that runs a stored version.

    Raises:
        ConfigError: the engine is not installed, or a server's key is not set.
        ModelError: the checkpoint or the device cannot be used, or a server does not serve the version.
        EngineError: the engine's process failed, or no server answers.
    """
    engine: Engine = ENGINES.builder(settings.type)(stored, codec, settings, model_settings)
    return engine

"""What runs the model: one section and one row in `ENGINES` per kind of engine, chosen by `engine.type`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from svd_loop.config.base import Fraction, Positive, Section
from svd_loop.config.variants import OneOf
from svd_loop.support.plugins import Seam, Variant

if TYPE_CHECKING:
    from svd_loop.config.sections import Config


class EngineSection(Section):
    """What every engine's section has; a plug-in's section derives from it."""

    type: str
    """Name of the engine."""
    chunk_size: Positive = 2048
    """Rows written to the ledger together: the work that a kill can lose."""
    chunk_seconds: Annotated[float, Field(gt=0.0)] | None = None
    """Time limit of one chunk, after which the job ends with an error; null means no limit."""

    has_weights: ClassVar[bool] = True
    """Whether the engine runs a checkpoint. False needs neither memory nor a tokenizer, as the scripted engine."""

    @property
    def rows_at_once(self) -> int | None:
        """Rows that the engine works on together; None where it sets no limit."""
        return None

    def refuse_conflicts(self, config: Config) -> None:
        """Compare the section with the rest of the configuration; raises `ValueError` naming both keys."""


class TransformersEngineSection(EngineSection):
    """`transformers` in this process."""

    type: Literal["transformers"] = "transformers"
    batch_size: Positive = 512
    """Rows decoded together; a batch shrinks as rows finish. Fewer, with a warning, where their keys and values could
    take more than half of a machine's free memory, or when a GPU's runs out."""
    chunk_size: Positive = 2048
    """Rows written to the ledger together: the work that a kill can lose."""
    chunk_seconds: Annotated[float, Field(gt=0.0)] | None = 14_400.0
    """Time limit of one chunk. An engine that needs longer counts as hanging, and the job ends with an error that keeps
    all earlier chunks; null means no limit."""
    threads: Annotated[int, Field(ge=0)] = 0
    """CPU threads of torch; 0 leaves torch's default."""
    prefix_cache_gib: Annotated[float, Field(ge=0.0)] | None = None
    """Memory for keys and values of prompts, kept for later prompts that begin alike: votes and stages of a candidate,
    candidates of a prompt. null is a quarter of what is free when a version is opened; 0 reads every prompt from its
    start, as models narrower than 256 and those with sliding windows always do."""

    @property
    def rows_at_once(self) -> int:
        """`batch_size`."""
        return self.batch_size


class RepetitionSection(Section):
    """Ends an answer that repeats itself. It counts as cut off and is never trained on."""

    shortest: Positive = 4
    """Shortest repeated run to detect, in tokens. A single token repeated is found too, as a longer run."""
    longest: Positive = 64
    """Longest repeated run to detect, in tokens."""
    count: Annotated[int, Field(ge=2)] = 8
    """Repetitions in a row after which the answer is ended."""

    @model_validator(mode="after")
    def _shortest_is_not_longer(self) -> RepetitionSection:
        if self.shortest > self.longest:
            raise ValueError(f"engine.repetition.shortest: {self.shortest} exceeds longest: {self.longest}")
        return self


class VllmEngineSection(EngineSection):
    """vLLM in a child process, one for each loaded version (docs/guides/vllm.md)."""

    type: Literal["vllm"] = "vllm"
    chunk_size: Positive = 2048
    """Rows sent to vLLM, and written to the ledger, together: the work that a kill can lose. Smaller chunks use the GPU
    less, since each ends with its longest rows alone."""
    chunk_seconds: Annotated[float, Field(gt=0.0)] | None = None
    """As for the transformers engine; `stall_seconds` detects a hanging engine sooner, whatever the chunk size."""
    replicas: Positive = 1
    """Copies of the model in child processes, among which rows are divided by prompt (data parallelism). Each uses
    `tensor_parallel_size` GPUs of its own."""
    tensor_parallel_size: Positive = 1
    """GPUs that hold one copy of the model together."""
    gpu_memory_utilization: Annotated[float, Field(gt=0.0, le=1.0)] = 0.9
    """Share of a GPU's memory for weights and KV cache; on vLLM's CPU build, of the machine's memory."""
    kv_cache_gib: Annotated[float, Field(gt=0.0)] | None = None
    """KV cache of a child in GiB (per GPU); null takes what `gpu_memory_utilization` leaves. Set it on a CPU."""
    max_num_seqs: Positive = 256
    """Rows decoded together in a child."""
    block_size: Positive | None = None
    """Tokens of a block of KV cache; prefixes are shared in whole blocks. null is vLLM's choice (16 on most GPUs, 128
    on a CPU, where it should be a multiple of 32)."""
    enforce_eager: bool = False
    """No compilation and no CUDA graphs: starts sooner, runs slower."""
    threads: Annotated[int, Field(ge=0)] = 0
    """CPU threads of a child; 0 divides the machine's threads among the replicas."""
    start_seconds: Annotated[float, Field(gt=0.0)] = 900.0
    """Time limit for loading a version, after which the job fails."""
    stall_seconds: Annotated[float, Field(gt=0.0)] = 1800.0
    """Time without a finished row after which the job fails; set it above what the longest answer takes."""
    probe_tolerance: Annotated[float, Field(gt=0.0)] | None = None
    """Mean absolute difference in nats allowed between the log probabilities of vLLM and transformers over the tokens
    of a few prompts, compared after every load; null is 0.01 for float32 and 0.1 for half precision."""
    repetition: RepetitionSection | None = None
    """End answers that repeat themselves; null lets them run to `max_tokens`."""
    thinking_token_budget: Positive | None = None
    """Tokens of thought after which a reasoning model has to answer; null means no limit. Needs `reasoning_parser`."""
    reasoning_parser: str | None = None
    """vLLM's name for the marks of the model's thoughts, such as `qwen3`; needed by `thinking_token_budget` only."""

    @model_validator(mode="after")
    def _budget_has_a_parser(self) -> VllmEngineSection:
        if (self.thinking_token_budget is None) != (self.reasoning_parser is None):
            raise ValueError(
                "engine.thinking_token_budget and engine.reasoning_parser belong together; they are "
                f"{self.thinking_token_budget} and {self.reasoning_parser}"
            )
        return self

    @property
    def rows_at_once(self) -> int:
        """Of all replicas together."""
        return self.max_num_seqs * self.replicas

    def refuse_conflicts(self, config: Config) -> None:
        """A frozen judge is a second model beside the first."""
        if config.cascade.frozen_judge and self.kv_cache_gib is None and self.gpu_memory_utilization > 0.5:
            raise ValueError(
                "cascade.frozen_judge: keeps two models loaded at once, which do not fit with "
                f"engine.gpu_memory_utilization: {self.gpu_memory_utilization}; set it to less than 0.5"
            )


class ReloadInPlaceSection(Section):
    """Reload through vLLM's endpoints for changing weights, available under `VLLM_SERVER_DEV_MODE=1` only."""

    type: Literal["in_place"] = "in_place"
    seconds: Annotated[float, Field(gt=0.0)] = 900.0
    """Time limit for a server to load a version."""


class ReloadCommandSection(Section):
    """Reload by your command, which restarts a server on another checkpoint."""

    type: Literal["command"] = "command"
    command: Annotated[tuple[str, ...], Field(min_length=1)]
    """Program and arguments, run without a shell once per endpoint that has to change. `{checkpoint}` becomes the
    version's folder, `{name}` the name to serve it under (`--served-model-name`), `{endpoint}` the endpoint's URL. The
    command returns when the restart is under way or done; the job then waits until `{name}` is served."""
    seconds: Annotated[float, Field(gt=0.0)] = 900.0
    """Time limit for command and restart together."""

    @model_validator(mode="after")
    def _says_what_to_serve(self) -> ReloadCommandSection:
        if missing := [word for word in ("{checkpoint}", "{name}") if not any(word in part for part in self.command)]:
            raise ValueError(
                f"engine.reload.command: must contain {' and '.join(missing)}: without it a server cannot "
                "know what to load, or a job not see that it did"
            )
        return self


class ServerEngineSection(EngineSection):
    """Running `vllm serve` replicas, over HTTP (docs/guides/served.md)."""

    type: Literal["server"] = "server"
    endpoints: Annotated[tuple[str, ...], Field(min_length=1)]
    """Base URLs of the replicas, such as `http://gpu1:8000`. All serve the same model."""
    model: str | None = None
    """Served name of the starting checkpoint (`--served-model-name`); null takes the only model a server lists. Not
    used with `reload: {type: command}`, where every version has its own name."""
    api_key_env: str | None = None
    """Environment variable with the key (`vllm serve --api-key`); null sends none. The key itself is never stored."""
    chunk_size: Positive = 2048
    """Rows sent to the servers, and written to the ledger, together: the work that a kill can lose."""
    chunk_seconds: Annotated[float, Field(gt=0.0)] | None = None
    """As for the transformers engine; `heartbeat_seconds` and `request_seconds` detect a hanging server sooner."""
    concurrency: Positive = 128
    """Open requests at one endpoint. vLLM batches up to `--max-num-seqs` of them and queues the rest."""
    request_seconds: Annotated[float, Field(gt=0.0)] = 3600.0
    """Time limit of one answer, the server's queue included."""
    retries: Annotated[int, Field(ge=0)] = 4
    """Retries at an endpoint after 408, 425, 429, a 5xx, or an answer that is cut off or not JSON. After them the
    endpoint is taken out of service and the row goes elsewhere; a row that fails this way three times ends the job."""
    backoff_seconds: Annotated[float, Field(ge=0.0)] = 1.0
    """Longest wait before the first retry; it doubles each time up to 60, and the wait is drawn at random below it. The
    server's `Retry-After` takes precedence."""
    heartbeat_seconds: Annotated[float, Field(gt=0.0)] = 10.0
    """Interval of health requests to a working endpoint; three misses in a row take it out of service. Also the
    interval in which one out of service is tried again."""
    recovery_seconds: Annotated[float, Field(ge=0.0)] = 300.0
    """Wait when no endpoint is left, before the job ends with an error; the same command then continues."""
    load_seconds: Annotated[float, Field(gt=0.0)] = 900.0
    """Time limit for a server to load an adapter, and for transformers to compute the probe's reference."""
    probe_tolerance: Annotated[float, Field(gt=0.0)] | None = None
    """As for the vLLM engine; every endpoint is compared."""
    repetition: RepetitionSection | None = None
    """As for the vLLM engine."""
    thinking_token_budget: Positive | None = None
    """As for the vLLM engine; the servers need `--reasoning-parser`."""
    reload: Annotated[ReloadInPlaceSection | ReloadCommandSection, Field(discriminator="type")] | None = None
    """How a server gets the full weights of a round. null never changes them: enough for `update.method: lora`, whose
    adapters are loaded beside the base."""

    @field_validator("endpoints")
    @classmethod
    def _are_base_urls(cls, endpoints: tuple[str, ...]) -> tuple[str, ...]:
        bases = tuple(url.rstrip("/").removesuffix("/v1") for url in endpoints)
        for base in bases:
            parts = urlsplit(base)
            if parts.username is not None or parts.password is not None:
                raise ValueError(
                    "engine.endpoints: a URL holds a user name or password, which would be stored "
                    "with the job; name an environment variable in engine.api_key_env"
                )
            if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
                raise ValueError(f"engine.endpoints: {base} is no base URL; they look like http://host:8000")
        if repeated := {base for base in bases if bases.count(base) > 1}:
            raise ValueError(f"engine.endpoints: {', '.join(sorted(repeated))} is named twice")
        return bases

    @field_validator("api_key_env")
    @classmethod
    def _is_a_name(cls, name: str | None) -> str | None:
        if name is not None and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):  # may be the key: not to be repeated
            raise ValueError(
                "engine.api_key_env: must be the name of an environment variable, such as VLLM_API_KEY, never the key"
            )
        return name

    def refuse_conflicts(self, config: Config) -> None:
        """Full weights need a way to reach the servers, which hold one version at a time."""
        if config.update.method != "full":
            return
        if self.reload is None and config.job.rounds > 0:
            raise ValueError(
                "update.method: full needs engine.reload (in_place or command): without it the "
                "servers would continue with the old weights; or train adapters (lora)"
            )
        if config.cascade.frozen_judge:
            raise ValueError(
                "cascade.frozen_judge: asks two versions in turn, and with full weights a server "
                "holds one; use update.method: lora, where both are served"
            )


class RayEngineSection(EngineSection):
    """Replicas of another engine on the nodes of a Ray cluster (docs/guides/cluster.md)."""

    type: Literal["ray"] = "ray"
    address: str | None = None
    """`host:port` of the cluster's head. null takes the variable RAY_ADDRESS, else the cluster that was started on this
    machine, else starts one on it."""
    replicas: Positive = 1
    """Copies of the model on the cluster, spread over its nodes."""
    replica: Annotated[TransformersEngineSection | VllmEngineSection, Field(discriminator="type")] = (
        TransformersEngineSection()
    )
    """The engine of each copy. It has `tensor_parallel_size` GPUs (one, for transformers) where the cluster has GPUs
    and `model.device` is not `cpu`. Its `chunk_size` and `chunk_seconds` are not used."""
    cpus: Positive = 1
    """Cores reserved for a copy, which are also its threads."""
    start_seconds: Annotated[float, Field(gt=0.0)] = 900.0
    """Time limit for the cluster to have room for all copies, and for these to load a version."""
    recovery_seconds: Annotated[float, Field(ge=0.0)] = 300.0
    """Wait when no copy is left, before the job ends with an error; the same command then continues."""

    @model_validator(mode="after")
    def _replicas_are_counted_once(self) -> RayEngineSection:
        if isinstance(self.replica, VllmEngineSection) and self.replica.replicas != 1:
            raise ValueError(
                f"engine.replica.replicas: {self.replica.replicas}; a copy is one replica: set engine.replicas"
            )
        return self

    @property
    def rows_at_once(self) -> int:
        """Of all copies together."""
        return self.replica.rows_at_once * self.replicas

    @property
    def gpus_of_a_replica(self) -> int:
        """GPUs of each copy, where it runs on GPUs."""
        return self.replica.tensor_parallel_size if isinstance(self.replica, VllmEngineSection) else 1


class ScriptedEngineSection(EngineSection):
    """A deterministic policy without a model, for trying the loop and for tests."""

    has_weights: ClassVar[bool] = False
    type: Literal["scripted"] = "scripted"
    replies: Path | None = None
    """JSON Lines of recorded replies to play back; null uses the simulated solver and judge below."""
    chunk_size: Positive = 256
    """Calls written to the ledger together."""
    chunk_seconds: Annotated[float, Field(gt=0.0)] | None = None
    """As for the transformers engine."""
    skill: Fraction = 0.4
    """Simulated solver: chance that a candidate is right at round 0."""
    gain: Fraction = 0.5
    """Simulated update: share of the remaining errors removed by training on rows that are all right."""
    true_positive: Fraction = 0.97
    """Simulated judge: chance of a yes vote on a right candidate."""
    false_positive: Fraction = 0.15
    """Simulated judge: chance of a yes vote on a wrong candidate."""
    invalid: Fraction = 0.0
    """Simulated judge: chance of a vote without a readable verdict."""


@dataclass(frozen=True, slots=True)
class EngineVariant(Variant):
    """A row of `ENGINES`.

    `build` opens an engine on a stored version: `(StoredVersion, ChatCodec, section, ModelSection) -> Engine`. Where
    the section's `has_weights` is false, it makes a whole backend instead: `(Config, versions folder) -> Backend`.

    Attributes:
        check: `module:function` that takes the section and raises `ConfigError` where the engine cannot run here, such
            as a missing library; called before any work. None checks nothing.
    """

    check: str | None = None


ENGINES = Seam(
    "engine",
    "engine.type",
    "svd_loop.engines",
    EngineVariant(TransformersEngineSection, "policies.engines.transformers:open_engine"),
    EngineVariant(VllmEngineSection, "policies.engines.vllm:open_engine", check="policies.engines.vllm:require_vllm"),
    EngineVariant(
        ServerEngineSection,
        "policies.engines.served.server:open_engine",
        check="policies.engines.served.endpoint:client_options",
    ),
    EngineVariant(RayEngineSection, "policies.engines.ray:open_engine", check="policies.engines.ray:require_ray"),
    EngineVariant(ScriptedEngineSection, "svd_loop.assembly.scripted_backend:ScriptedBackend"),
)

AnyEngine = Annotated[EngineSection, OneOf(ENGINES, default="transformers")]
"""Any engine's section; `engine: {threads: 1}` means the transformers engine with one thread."""

"""Backends: generate with and train one job's versions (a checkpoint, an engine and an update algorithm).

A backend keeps the versions of one job under `folder`. `ModelBackend` serves every engine that runs a checkpoint;
the engine is the configuration's `engine.type`, a row of `svd_loop.config.engines.ENGINES`. An engine
without weights brings a backend of its own (`svd_loop.assembly.scripted_backend`).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from svd_loop.assembly.hub import fetched
from svd_loop.assembly.vocabulary import vocabulary_digest
from svd_loop.config import Config
from svd_loop.config.engines import ENGINES
from svd_loop.config.update import UPDATES
from svd_loop.contracts import Message, Policy, Role, RoleName, Sampling, TrainingRow, UpdateMaterial, UpdateResult
from svd_loop.errors import ConfigError
from svd_loop.nano import NANO_CHECKPOINT
from svd_loop.support.allocator import bound_kernel_caches, keep_freed_memory

if TYPE_CHECKING:
    from policies.text.chat import ChatCodec
    from policies.training.algorithm import Updater
    from policies.versions.stored import StoredVersion
    from policies.versions.weights import WeightStore


_log = logging.getLogger(__name__)


class Backend(Protocol):
    """Generates with and trains the versions of a job."""

    @property
    def fit_digest(self) -> str:
        """Digest of what `prompt_tokens` depends on."""
        ...

    @property
    def max_context(self) -> int | None:
        """Longest prompt plus answer in tokens; None for no limit."""
        ...

    @property
    def positions(self) -> int | None:
        """Longest sequence the checkpoint was trained for, in tokens; None if unknown."""
        ...

    def open(self, round: int) -> Policy:
        """Open the version that a round produced; 0 is the base."""
        ...

    def open_step(self, round: int, step: int) -> Policy:
        """Open a checkpoint of a round's update, one of its `UpdateResult.candidates`."""
        ...

    def usable(self, rows: Sequence[TrainingRow]) -> tuple[list[TrainingRow], dict[str, float]]:
        """The rows that `update` accepts, and how many it would refuse, by reason."""
        ...

    def update(self, material: UpdateMaterial, round: int, parent: int) -> UpdateResult:
        """Train and store the version of a round, starting from the version of round `parent`."""
        ...

    def prompt_tokens(self, messages: tuple[Message, ...], *, thinking: bool = False) -> int:
        """Length of a rendered prompt, for a role that thinks or does not."""
        ...

    def check_two_turns(self, texts: tuple[str, ...]) -> None:
        """Raise `ModelError` if a reply cannot be put back as a turn and be followed by one of these texts."""
        ...

    def encode_rows(self, texts: list[tuple[str, str]]) -> list[TrainingRow]:
        """(user text, reply) pairs as anchor rows."""
        ...


def make_backend(config: Config, versions: Path, config_digest: str = "") -> Backend:
    """Build the backend of `engine.type`; `versions` is the folder for its weights.

    Raises:
        ConfigError: the engine is not installed.
        ModelError: the checkpoint cannot be used.
        WeightsError: versions already stored are damaged.
    """
    backend: Backend = _backend_class(config)(config, versions, config_digest)
    return backend


def samplings_of(config: Config) -> dict[RoleName, Sampling]:
    """Sampling parameters by role."""
    sections = {role: config.cascade.sampling_of(role) for role in config.cascade.judge_roles}
    sections |= {Role.SOLVER: config.sampling}
    return {role: section.to_sampling() for role, section in sections.items()}


class ModelBackend:
    """A checkpoint, an engine that generates with it, and an update algorithm that trains it."""

    def __init__(self, config: Config, versions: Path, config_digest: str = "") -> None:
        from policies.versions.weights import WeightStore

        engine = config.engine
        if (check := ENGINES.find(engine.type).check) is not None:
            ENGINES.load(engine.type, check)(engine)
        keep_freed_memory()
        bound_kernel_caches()
        refuse_foreign_anchors(config)
        if config.update.launch.apart:  # raise errors before anything is sampled
            from policies.training.launching import accelerate_config
            from policies.versions.checkpoints import resolve_device

            accelerate_config(config.update, resolve_device(config.model.device))
        self._config = config
        self._config_digest = config_digest
        self._store: WeightStore = WeightStore(versions)
        self._store.add_base(checkpoint_path(config.model.path, config.job.root))

    @property
    def fit_digest(self) -> str:
        """The base's fingerprint and the templates."""
        return f"{self._store.load(0, verify=False).version.fingerprint}/{self._config.model.templates}"

    @property
    def max_context(self) -> int | None:
        """`model.max_context`."""
        return self._config.model.max_context

    @cached_property
    def positions(self) -> int | None:
        """`max_position_embeddings`; None if the configuration scales them (`rope_type` other than default)."""
        from policies.versions.checkpoints import positions_of

        return positions_of(checkpoint_path(self._config.model.path, self._config.job.root))

    def open(self, round: int) -> Policy:
        """Load a version into an engine."""
        return self.open_stored(self._config, self._store.load(round))

    def open_step(self, round: int, step: int) -> Policy:
        """Load a checkpoint into an engine."""
        from policies.versions.stored import stored_version

        return open_stored(self._config, stored_version(self._store.step_path(round, step)))

    @staticmethod
    def open_stored(config: Config, stored: StoredVersion) -> Policy:
        """Load a version of any job into the engine of `config`."""
        from policies.opening import open_policy

        keep_freed_memory()
        bound_kernel_caches()
        measuring = config.evaluation.sampling
        return open_policy(
            stored,
            samplings=samplings_of(config),
            engine_settings=config.engine,
            model_settings=config.model,
            job_seed=config.job.seed,
            held_out=measuring.to_sampling() if measuring else None,
        )

    def usable(self, rows: Sequence[TrainingRow]) -> tuple[list[TrainingRow], dict[str, float]]:
        """The rows that the update algorithm can train on."""
        return self._updater.usable(rows)

    def update(self, material: UpdateMaterial, round: int, parent: int) -> UpdateResult:
        """Train with the configured algorithm from the version of round `parent` or the base."""
        result = self._updater.learn(material, round=round, parent=self._store.path(parent))
        if self._config.update.choose_from and not result.candidates:
            algorithm = self._config.update.algorithm.type
            _log.warning("update.choose_from: the algorithm %s stores no checkpoints; the last step is kept", algorithm)
        return result

    def prompt_tokens(self, messages: tuple[Message, ...], *, thinking: bool = False) -> int:
        """Length with the base's tokenizer."""
        (ids,) = self._codec.encode([messages], thinking=thinking)
        return len(ids)

    def check_two_turns(self, texts: tuple[str, ...]) -> None:
        """Check with the base's chat template."""
        self._codec.check_two_turns(texts)

    def encode_rows(self, texts: list[tuple[str, str]]) -> list[TrainingRow]:
        """Replies end with the tokenizer's end token, like sampled ones."""
        tokenizer = self._codec.tokenizer
        prompts = self._codec.encode([(Message("user", user),) for user, _ in texts])
        replies = tokenizer([reply for _, reply in texts], add_special_tokens=False)["input_ids"]
        return [
            TrainingRow((*prompt, *reply, tokenizer.eos_token_id), len(prompt), "anchor")
            for prompt, reply in zip(prompts, replies, strict=True)
        ]

    @cached_property
    def _codec(self) -> ChatCodec:
        from policies.versions.checkpoints import PLAIN_TEMPLATES, load_codec

        model = self._config.model
        stored = self._store.load(0, verify=False)
        return load_codec(stored, plain=model.templates == PLAIN_TEMPLATES, thought=model.thought)

    @cached_property
    def _updater(self) -> Updater:
        from policies.training.algorithm import UpdateContext

        config = self._config
        context = UpdateContext(
            self._store, config.update, self._codec, config.job.seed, config.model.device, self._config_digest
        )
        updater: Updater = UPDATES.builder(config.update.algorithm.type)(context)
        return updater


def open_stored(config: Config, stored: StoredVersion) -> Policy:
    """Open a stored version of any job under this configuration: its seed, sampling and templates.

    Raises:
        ModelError: the checkpoint cannot be used.
        WeightsError: the version is damaged.
    """
    from policies.versions.weights import check_intact

    check_intact(stored)
    policy: Policy = _backend_class(config).open_stored(config, stored)
    return policy


def _backend_class(config: Config) -> Any:
    """The class of the backend that the configured engine works in."""
    return ModelBackend if config.engine.has_weights else ENGINES.builder(config.engine.type)


def refuse_missing_device(config: Config) -> None:
    """Check that the configured device exists, before any data is read.

    Raises:
        ModelError: `model.device` is `cuda` and torch sees no GPU.
    """
    if config.engine.has_weights:
        from policies.versions.checkpoints import resolve_device

        resolve_device(config.model.device)


def refuse_foreign_anchors(config: Config) -> None:
    """Check that nano's post-training anchors are used only with nano's vocabulary.

    Raises:
        ConfigError: `update.replay.anchor` is `posttrain` and the checkpoint is something else.
    """
    if config.update.replay.anchor != "posttrain" or not config.engine.has_weights:
        return
    if vocabulary_digest(checkpoint_path(config.model.path, config.job.root)) != vocabulary_digest(NANO_CHECKPOINT):
        raise ConfigError(
            "update.replay.anchor: posttrain is nano's own mixture and needs model.path: nano or a "
            f"checkpoint trained from it, it is {config.model.path}; use own or none"
        )


def checkpoint_path(path: str, root: Path) -> Path:
    """Resolve `model.path` to the folder of a checkpoint.

    Args:
        path: `nano` for the embedded one, a folder, a GGUF file (or a folder with one), or a hub name.
        root: `job.root`; a GGUF file is unpacked once under it.

    Raises:
        ConfigError: there is no such folder, and the hub does not have it either.
        ModelError: the checkpoint cannot be used.
    """
    if path == "nano":
        return NANO_CHECKPOINT
    if (found := Path(path)).exists():
        from policies.versions.inspection import usable_checkpoint

        return usable_checkpoint(found, root / "checkpoints")
    return fetched(path)

"""The backend of `engine.type: scripted`, without weights, engine and update algorithm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from svd_loop.config import Config
from svd_loop.config.engines import ScriptedEngineSection
from svd_loop.contracts import Message, Policy, PolicyVersion, TrainingRow, UpdateMaterial, UpdateResult

if TYPE_CHECKING:
    from policies.versions.stored import StoredVersion


class ScriptedBackend:
    """Simulated solver, judge and training, or a recording played back.

    A `model.path` that is a folder is a scripted version of another job, whose skill this one starts with.
    """

    fit_digest = "scripted"
    max_context = None
    positions = None

    def __init__(self, config: Config, versions: Path, config_digest: str = "") -> None:
        from policies.scripted import Traits, read_traits, write_traits

        engine = _section(config)
        self._config = config
        self._versions = versions
        traits = Traits(engine.skill, engine.gain, engine.true_positive, engine.false_positive, engine.invalid)
        if (checkpoint := Path(config.model.path)).is_dir():  # a script learns only its skill; the rest is settings
            traits = replace(traits, skill=read_traits(checkpoint).skill)
        write_traits(versions / PolicyVersion(0, "").name, traits)  # changes nothing if it already exists

    def open(self, round: int) -> Policy:
        """Open the script with the traits of a version."""
        from policies.versions.stored import stored_version

        return self.open_stored(self._config, stored_version(self._versions / PolicyVersion(round, "").name))

    def open_step(self, round: int, step: int) -> Policy:
        """Open the script with the traits of a checkpoint."""
        from policies.versions.stored import step_folder, stored_version

        return self.open_stored(self._config, stored_version(step_folder(self._versions, round, step)))

    @staticmethod
    def open_stored(config: Config, stored: StoredVersion) -> Policy:
        """Open the script with the traits of a version of any job, or a recording."""
        from policies.scripted import ScriptedPolicy, read_traits

        seed, replies = config.job.seed, _section(config).replies
        if replies is not None:
            return ScriptedPolicy.from_recording(replies, version=stored.version, job_seed=seed)
        return ScriptedPolicy.simulated(read_traits(stored.path), version=stored.version, job_seed=seed)

    def usable(self, rows: Sequence[TrainingRow]) -> tuple[list[TrainingRow], dict[str, float]]:
        """Accept all rows."""
        return list(rows), {}

    def update(self, material: UpdateMaterial, round: int, parent: int) -> UpdateResult:
        """Move the simulated skill towards the rows' quality."""
        from policies.scripted import ScriptedUpdater

        folder = self._versions / PolicyVersion(parent, "").name
        updater = ScriptedUpdater(self._versions, self._config.update.choose_from)
        return updater.fit(material.rows, round=round, parent=folder)

    def prompt_tokens(self, messages: tuple[Message, ...], *, thinking: bool = False) -> int:
        """Length in bytes, which are the tokens."""
        return sum(len(message.content.encode()) for message in messages)

    def check_two_turns(self, texts: tuple[str, ...]) -> None:
        """Accept all: a script has no chat template."""

    def encode_rows(self, texts: list[tuple[str, str]]) -> list[TrainingRow]:
        """Encode texts as bytes, which are the tokens."""
        from policies.scripted import encode

        return [TrainingRow((*encode(user), *encode(reply)), len(encode(user)), "anchor") for user, reply in texts]


def _section(config: Config) -> ScriptedEngineSection:
    assert isinstance(config.engine, ScriptedEngineSection)
    return config.engine

"""The update algorithm `practice`: a checkpoint like the last one, with more skill."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

from policies.training.algorithm import UpdateContext
from policies.versions.stored import stored_version
from policies.versions.weights import Origin
from svd_abacus.engine import SKILL_FILE
from svd_loop.contracts import TrainingRow, UpdateMaterial, UpdateResult


@dataclass(frozen=True)
class Practice:
    """Every update moves the skill towards 1."""

    context: UpdateContext

    def usable(self, rows: Sequence[TrainingRow]) -> tuple[list[TrainingRow], dict[str, float]]:
        """All of them."""
        return list(rows), {}

    def learn(self, material: UpdateMaterial, *, round: int, parent: Path) -> UpdateResult:
        """Store the next version, unless it is stored already."""
        context = self.context
        digest = hashlib.sha256(json.dumps([astuple(row) for row in material.rows]).encode()).hexdigest()
        before = stored_version(parent)
        path = before.checkpoint / SKILL_FILE
        skill = json.loads(path.read_text())["skill"] if path.exists() else 0.3
        skill += context.settings.algorithm.gain * (1.0 - skill)  # type: ignore[attr-defined]

        def fill(folder: Path) -> None:
            for file in before.checkpoint.iterdir():
                if file.suffix in (".safetensors", ".json", ".jinja", ".txt") and file.name != "manifest.json":
                    shutil.copyfile(file, folder / file.name)
            (folder / SKILL_FILE).write_text(json.dumps({"skill": skill}))

        rows, metrics = len(material.rows), {"skill": skill}
        origin = Origin(before.version.round, digest, context.config_digest, metrics=metrics, rows=rows, steps=1)
        stored = context.store.existing(round, digest, context.config_digest)
        stored = stored or context.store.write(round, "full", fill, origin)
        return UpdateResult(stored.version, stored.path, rows, 1, metrics)


def make_updater(context: UpdateContext) -> Practice:
    """The algorithm for a job."""
    return Practice(context)

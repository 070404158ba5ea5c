"""Training without gradients: the skill that the simulated solver learns from accepted rows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path

from policies.scripted import tasks
from policies.scripted.policy import decode
from policies.scripted.simulation import Traits
from policies.versions.stored import MANIFEST, Manifest, StoredVersion, fingerprint_of, step_folder, stored_version
from policies.versions.weights import check_intact
from svd_loop.contracts import PolicyVersion, TrainingRow, UpdateResult
from svd_loop.errors import TrainingError, WeightsError
from svd_loop.support.atomic import write_atomically

POLICY_FILE = "policy.json"


class ScriptedUpdater:
    """Imitation in one line: `skill' = (1 - gain) * skill + gain * (share of accepted rows that are right)`.

    So rows better than the policy raise it, unverified rows leave it where it is, and worse ones pull it down, as
    supervised fine-tuning on one's own samples does. Anchor rows change nothing: the simulated judge forgets nothing.

    Args:
        versions: Folder under which `round-001` and so on are written.
        choose_from: Checkpoints to keep (`update.choose_from`); the skill moves by equal parts from one to the next.
    """

    def __init__(self, versions: Path, choose_from: int = 0) -> None:
        self._versions = versions
        self._choose_from = choose_from

    def fit(self, rows: Sequence[TrainingRow], *, round: int, parent: Path) -> UpdateResult:
        """Learn from `rows`; bit-identical on repetition.

        Raises:
            TrainingError: No row is an accepted solution.
            WeightsError: `parent` holds no scripted policy.
        """
        accepted = [row for row in rows if row.origin == "accepted"]
        if not accepted:
            raise TrainingError(f"round {round}: {len(rows)} rows hold no accepted solution to learn from")
        before = read_traits(parent)
        share = sum(map(_is_right, accepted)) / len(accepted)
        after = replace(before, skill=(1 - before.gain) * before.skill + before.gain * share)
        path, origin = self._versions / PolicyVersion(round, "").name, stored_version(parent).version.round
        steps = self._choose_from or 1
        for step in range(1, self._choose_from + 1):
            skill = before.skill + step / steps * (after.skill - before.skill) if step < steps else after.skill
            folder = step_folder(self._versions, round, step)
            write_traits(folder, replace(after, skill=skill), round=round, parent=origin, learned_from=rows)
        stored = write_traits(path, after, round=round, parent=origin, learned_from=rows)
        metrics = {"skill_before": before.skill, "skill_after": after.skill, "share_right": share}
        candidates = tuple(range(1, self._choose_from + 1))
        return UpdateResult(stored.version, path, len(rows), steps, metrics, candidates)


def read_traits(folder: Path) -> Traits:
    """The traits stored in a version folder, checked against the digest in its manifest.

    Raises:
        WeightsError: The folder holds no intact scripted policy.
    """
    path = folder / POLICY_FILE
    check_intact(stored_version(folder))
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        return Traits(**{field.name: float(stored[field.name]) for field in fields(Traits)})
    except FileNotFoundError:
        raise WeightsError(f"{path}: no scripted policy is stored here") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{path}: not a scripted policy: {error!r}") from None


def write_traits(
    folder: Path, traits: Traits, *, round: int = 0, parent: int | None = None, learned_from: Sequence[TrainingRow] = ()
) -> StoredVersion:
    """Store traits as a version folder with a manifest, like other versions; repeating it changes no byte.

    Args:
        folder: The version's folder, created if absent.
        traits: What to store.
        round: The round that made it; 0 is the base.
        parent: The round whose version it was learned from; None for the base.
        learned_from: The rows it learned from; empty for the base.
    """
    data_digest = _data_digest(learned_from)
    content = _json_bytes({**traits.as_dict(), "learned_from": data_digest})
    files = {POLICY_FILE: hashlib.sha256(content).hexdigest()}
    manifest = Manifest(round, "full", fingerprint_of(files), files, parent, data_digest=data_digest)
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / POLICY_FILE, content)
    write_atomically(folder / MANIFEST, manifest.dump().encode())  # last: only a folder with a manifest is a version
    return stored_version(folder)


def _json_bytes(value: object) -> bytes:
    return json.dumps(value, indent=2, sort_keys=True).encode()


def _is_right(row: TrainingRow) -> bool:
    """Whether a row's solution answers its question, by the script's own arithmetic."""
    solution = decode(row.input_ids[row.supervised_from :])
    questions = tasks.questions_in(decode(row.input_ids[: row.supervised_from]))
    task = questions[0] if questions else tasks.stand_in(row.prompt_id)
    return task.is_solved_by(solution)


def _data_digest(rows: Sequence[TrainingRow]) -> str:
    digest, names = hashlib.sha256(), [field.name for field in fields(TrainingRow)]
    for row in rows:
        # As `asdict` gives them, which would copy every id and take longer than the rest of an update.
        digest.update(json.dumps({name: getattr(row, name) for name in names}).encode())
    return digest.hexdigest()

"""A job's ledger as the pages need it, and what is computed once for each committed round.

A `JobSource` belongs to one thread, as its SQLite connection does. It holds no transaction between two calls, so a
running job is never kept from anything, and a committed round never changes, so what was computed of it is kept.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from svd_loop.contracts import JobPaths, JobResult, JobState, Outcome
from svd_loop.ledger import LedgerReader
from svd_loop.ledger.browse import domains_of, rejections_of
from svd_loop.promotion.lineage import LearnedJudgement, TrainedVersion, Update, judgements_of, updates_of, versions_of
from svd_loop.report.overview import Overview, RoundView, overview
from svd_loop.viewer.canaries import PlantedCanary, canaries_of

if TYPE_CHECKING:
    from tokenizers import Tokenizer

T = TypeVar("T")

SampleOutcomes = Callable[[str, str, Sequence[str]], Sequence[Outcome] | None]
"""`(split, problem id, sample texts)` to the outcome of each sample; None where they cannot be scored here."""

FRESH = 60.0
"""Seconds without a reply after which a job no longer counts as working."""


def no_outcomes(split: str, id: str, texts: Sequence[str]) -> None:
    """Score nothing."""
    return None


@dataclass(frozen=True, slots=True)
class Pulse:
    """What a live page asks for again and again; cheap to read.

    Attributes:
        rounds: committed rounds.
        replies: highest number of a reply.
        stopped: whether the job has ended.
        age: seconds since the last reply was written; None without one.
        held: whether a process of this machine holds the job; None if another machine's does, or none says so.
    """

    rounds: int
    replies: int
    stopped: bool
    age: float | None
    held: bool | None

    @property
    def working(self) -> bool:
        """Whether a process works on the job; a long update writes no reply, so its holder counts first."""
        fresh = self.age is not None and self.age < FRESH
        return not self.stopped and (fresh if self.held is None else self.held)


@dataclass(slots=True)
class _Progress:
    """Replies since the last committed round, counted up to a reply."""

    rounds: int
    seq: int
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    tokens: int = 0


class JobSource:
    """An open job.

    Args:
        folder: the job's folder.
        outcomes: how samples of held-out problems are scored, if they can be.
    """

    def __init__(self, folder: Path, outcomes: SampleOutcomes = no_outcomes) -> None:
        self.folder = folder
        self.outcomes = outcomes
        self.reader = LedgerReader.open_for_reading(folder)
        self._rounds: dict[str, tuple[int, Any]] = {}
        self._by_round: dict[tuple[str, int], Any] = {}
        self._progress = _Progress(-1, 0)

    def close(self) -> None:
        """Close the ledger."""
        self.reader.close()

    @cached_property
    def config(self) -> dict[str, Any]:
        """The resolved configuration as plain data."""
        return self.reader.settings()

    @cached_property
    def domains(self) -> list[str]:
        """Domains of the training prompts."""
        return domains_of(self.reader)

    @property
    def stages(self) -> list[str]:
        """Stages of the cascade."""
        stages = self.config["cascade"]["stages"]
        return [stage if isinstance(stage, str) else stage["type"] for stage in stages]

    def overview(self) -> Overview:
        """The first page's contents, computed again when a round or a stop is added."""
        pulse = self.pulse()
        stamp = 2 * pulse.rounds + pulse.stopped
        if self._rounds.get("overview", (-1,))[0] != stamp:
            self._rounds["overview"] = (stamp, overview(self._state(), self.config))
        found: Overview = self._rounds["overview"][1]
        return found

    def round(self, number: int) -> RoundView | None:
        """A committed round, or None."""
        return next((view for view in self.overview().rounds if view.number == number), None)

    def pulse(self) -> Pulse:
        """How far the job is; a few rows are read."""
        query = """SELECT (SELECT count(*) FROM rounds) AS rounds,
                   (SELECT coalesce(max(seq), 0) FROM answers) AS replies,
                   (SELECT written_at FROM batches ORDER BY id DESC LIMIT 1) AS written,
                   (SELECT count(*) FROM stops WHERE after_round = (SELECT max(round) FROM rounds)
                    AND reason <> 'interrupted') AS stopped"""
        row = next(self.reader.query(query))
        age = None if row["written"] is None else max(0.0, time.time() - row["written"])
        return Pulse(row["rounds"], row["replies"], bool(row["stopped"]), age, _is_held(JobPaths(self.folder)))

    def progress(self) -> list[tuple[str, str, int]]:
        """Replies since the last committed round by purpose and role; counts go on from where they were."""
        pulse = self.pulse()
        if self._progress.rounds != pulse.rounds:
            self._progress = _Progress(pulse.rounds, self._first_after_commit(pulse.replies))
        query = """SELECT purpose, role, count(*) AS n, sum(output_tokens) AS tokens FROM answers
                   JOIN speakers ON speakers.id = speaker WHERE seq > ? AND seq <= ? GROUP BY purpose, role"""
        for row in self.reader.query(query, [self._progress.seq, pulse.replies]):
            self._progress.counts[row["purpose"], row["role"]] += row["n"]
            self._progress.tokens += row["tokens"]
        self._progress.seq = pulse.replies
        return [(purpose, role, n) for (purpose, role), n in self._progress.counts.most_common()]

    def rejections(self, round: int) -> list[tuple[str, str, int]]:
        """Verdicts of a round by rejection and stage."""
        return self.once("rejections", round, lambda: rejections_of(self.reader, round))

    def canaries(self, round: int) -> list[PlantedCanary]:
        """The canaries of a round with their votes."""
        return self.once("canaries", round, lambda: canaries_of(self.reader, round, self.config))

    def versions(self, id: str, candidate: int, round: int) -> tuple[list[TrainedVersion], list[TrainedVersion]]:
        """Versions that trained on an accepted candidate, and later ones that only inherited it."""
        return versions_of((id, candidate, round), self._updates())

    def judgements(self, id: str, round: int) -> list[LearnedJudgement]:
        """The judge rows of a round about a prompt."""
        return [one for one in judgements_of(self.reader, id, updates=self._updates()) if one.round == round]

    def _updates(self) -> Mapping[int, Update]:
        rounds = self.pulse().rounds
        if self._rounds.get("updates", (-1,))[0] != rounds:
            self._rounds["updates"] = (rounds, updates_of(self.reader))
        updates: Mapping[int, Update] = self._rounds["updates"][1]
        return updates

    def decoded(self, content_id: int, *, special: bool = True) -> str | None:
        """Token ids as text, with special tokens written out; None where the job's tokenizer is not here."""
        if self._tokenizer is None:
            return None
        return str(self._tokenizer.decode(list(self.reader.ids(content_id)), skip_special_tokens=not special))

    def _state(self) -> JobState | JobResult:
        return self.reader.result() or self.reader.state()

    def once(self, name: str, round: int, make: Callable[[], list[T]]) -> list[T]:
        """Return what `make` gives, computed once for a name and a round."""
        if (name, round) not in self._by_round:
            self._by_round[name, round] = make()
        found: list[T] = self._by_round[name, round]
        return found

    def _first_after_commit(self, last: int) -> int:
        """The last reply written before the newest round was committed, by bisection over the batches' times."""
        row = next(self.reader.query("SELECT max(committed_at) AS at FROM rounds"))
        if row["at"] is None:
            return 0
        query = """SELECT written_at FROM answers JOIN batches ON batches.id = batch WHERE seq >= ?
                   ORDER BY seq LIMIT 1"""
        low, high = 0, last
        while low < high:
            middle = (low + high + 1) // 2
            found = next(self.reader.query(query, [middle]), None)
            if found is not None and found["written_at"] <= row["at"]:
                low = middle
            else:
                high = middle - 1
        return low

    @cached_property
    def _tokenizer(self) -> Tokenizer | None:
        """The tokenizer of the job's versions, or of the checkpoint that its base refers to."""
        paths = JobPaths(self.folder)
        folders = sorted(paths.versions.glob("round-*")) if paths.versions.is_dir() else []
        for folder in [*folders, *_checkpoints(paths)]:
            if (file := folder / "tokenizer.json").is_file():
                from tokenizers import Tokenizer

                try:
                    return Tokenizer.from_file(str(file))
                except Exception:  # the library raises bare exceptions; a page without a decoded prompt is still a page
                    return None
        return None


def _is_held(paths: JobPaths) -> bool | None:
    """Whether the process that the lock names lives. The lock itself is not tried: that would take it for a moment."""
    try:
        owner = json.loads(paths.lock_owner.read_text(encoding="utf-8"))
        if owner["host"] != socket.gethostname():
            return None
        os.kill(int(owner["pid"]), 0)
    except PermissionError:  # somebody else's process
        return True
    except ProcessLookupError:
        return False
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return True


def _checkpoints(paths: JobPaths) -> list[Path]:
    try:
        manifest = json.loads((paths.version(0) / "manifest.json").read_text(encoding="utf-8"))
        return [Path(manifest["base_path"])] if manifest.get("base_path") else []
    except (OSError, ValueError, KeyError):
        return []

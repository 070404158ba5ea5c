"""A miniature loop for the kill tests: `python -m tests.svd_loop.ledger.kill_job FOLDER LOG [BOUNDARY]`.

Rounds of solving, judging, evaluating and committing over a real ledger with a policy that costs next to
nothing. Every chunk that is asked is appended to LOG before it is answered. With BOUNDARY the process kills
itself the first time it gets there (see `boundaries`).
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from svd_loop.config import Config
from svd_loop.contracts import (
    AgentCall,
    Candidate,
    Episode,
    JobResult,
    Reply,
    RoundRecord,
    Stage,
    StopReason,
    TrainingRow,
    UpdateResult,
    Verdict,
    Vote,
    VoteValue,
)
from svd_loop.ledger import DurablePolicy, Ledger, LedgerReader, content_digest
from tests.svd_loop.ledger import samples

ROUNDS = 3
CHUNK = 16
CANDIDATES = 4
READY = "working"
PHASES = ("solve", "judge", "evaluate")


def boundaries() -> list[str]:
    """Where a job can kill itself, in the order an uninterrupted one passes them."""
    places = []
    for round in range(ROUNDS + 1):
        phases = PHASES if round else ("evaluate",)
        places += [f"{round}/{phase}/{moment}" for phase in phases for moment in ("asked", "recorded")]
        places += [f"{round}/commit", f"{round}/committed"]
    return [*places, "stop", "stopped"]


class Moment:
    """Where the job is; dies where it was told to."""

    def __init__(self, last: str | None) -> None:
        self.phase = ""
        self._last = last

    def reached(self, place: str) -> None:
        if place == self._last:
            os.kill(os.getpid(), signal.SIGKILL)


class LoggingPolicy(samples.StubPolicy):
    """Logs each chunk it is asked, then takes a moment."""

    def __init__(self, round: int, log: Path, moment: Moment) -> None:
        super().__init__(round)
        self._log = log
        self._moment = moment

    def generate(self, calls: Sequence[AgentCall]) -> list[Reply]:
        with self._log.open("a") as file:
            file.write(" ".join(self.key(call)[:16] for call in calls) + "\n")
        time.sleep(0.002)
        replies = super().generate(calls)
        self._moment.reached(f"{self._moment.phase}/asked")
        return replies


class WatchedLedger(Ledger):
    """A ledger that tells the moment when it has written something."""

    moment = Moment(None)

    def record(self, items: Sequence[tuple[str, AgentCall, Reply]]) -> None:
        super().record(items)
        self.moment.reached(f"{self.moment.phase}/recorded")

    def commit_round(
        self,
        record: RoundRecord,
        episode: Episode | None = None,
        rows: Sequence[TrainingRow] = (),
        update: UpdateResult | None = None,
    ) -> None:
        self.moment.reached(f"{record.round}/commit")
        super().commit_round(record, episode, rows, update)
        self.moment.reached(f"{record.round}/committed")

    def commit_stop(self, result: JobResult) -> None:
        self.moment.reached("stop")
        super().commit_stop(result)
        self.moment.reached("stopped")


def play(folder: Path, log: Path, last: str | None, config: Config) -> str:
    """Play the job from where it stands to its end; the digest of its ledger."""
    moment = Moment(last)
    WatchedLedger.moment = moment
    with WatchedLedger.open(folder, config) as ledger:
        sys.stdout.write(READY + "\n")
        sys.stdout.flush()

        def ask(round: int, of: int, phase: str, calls: list[AgentCall]) -> list[Reply]:
            moment.phase = f"{round}/{phase}"
            return DurablePolicy(LoggingPolicy(of, log, moment), ledger, CHUNK).generate(calls)

        ledger.record_prompts(samples.PROMPTS)
        for round in range(ledger.state().next_round, ROUNDS + 1):
            if round == 0:
                ask(0, 0, "evaluate", _evaluation())
                ledger.commit_round(samples.record(0))
                continue
            solved = ask(round, round - 1, "solve", _solving(round))
            judged = ask(round, round - 1, "judge", _judging(round))
            episode = _episode(round, solved, judged)
            ask(round, round, "evaluate", _evaluation())
            rows = _rows(episode)
            record = replace(samples.record(round), rows=len(rows), accepted_prompts=episode.accepted)
            ledger.commit_round(record, episode, rows, samples.update(round))
        history = ledger.state().history
        if ledger.result() is None:
            test = {"base": history[0].scores}
            ledger.commit_stop(JobResult("sample", StopReason.PLATEAU, history[1], history, test))
        return content_digest(ledger)


def is_finished(folder: Path) -> bool:
    """Whether a job has committed its stop."""
    if not (folder / "config.json").exists():
        return False
    with LedgerReader.open_for_reading(folder) as ledger:
        return ledger.result() is not None


def _solving(round: int) -> list[AgentCall]:
    return [samples.solve(prompt.id, n, round) for prompt in samples.PROMPTS for n in range(CANDIDATES)]


def _judging(round: int) -> list[AgentCall]:
    return [
        samples.vote(prompt.id, n, v, round, stage)
        for prompt in samples.PROMPTS
        for n in range(CANDIDATES)
        for stage in (Stage.FACTUALITY, Stage.CORRECTNESS)
        for v in range(2)
    ]


def _evaluation() -> list[AgentCall]:
    return [samples.solve(f"q{number}", k, 0, "development") for number in range(8) for k in range(CANDIDATES)]


def _episode(round: int, solved: list[Reply], judged: list[Reply]) -> Episode:
    candidates = tuple(
        Candidate(
            reply.call.prompt_id,
            reply.call.candidate,
            reply.text,
            reply.finish_reason,
            reply.policy,
            reply.prompt_ids,
            reply.token_ids,
        )
        for reply in solved
    )
    votes: dict[tuple[str, int], list[Vote]] = {}
    for reply in judged:
        call = reply.call
        value = VoteValue.YES if reply.text.endswith("[[Y]]") else VoteValue.NO
        cast = Vote(call.prompt_id, call.candidate, call.stage, call.vote, value, reply.text)
        votes.setdefault((call.prompt_id, call.candidate), []).append(cast)
    verdicts = tuple(
        Verdict(*name, accepted=all(vote.value is VoteValue.YES for vote in cast), votes=tuple(cast))
        for name, cast in votes.items()
    )
    accepted = {(verdict.prompt_id, verdict.candidate) for verdict in verdicts if verdict.accepted}
    selected = tuple(candidate for candidate in candidates if (candidate.prompt_id, candidate.index) in accepted)
    return Episode(round, len(samples.PROMPTS), candidates, verdicts, selected, {"generated": len(candidates)})


def _rows(episode: Episode) -> list[TrainingRow]:
    return [
        TrainingRow(
            (*candidate.prompt_ids, *candidate.token_ids),
            len(candidate.prompt_ids),
            "accepted",
            candidate.prompt_id,
            candidate.index,
            episode.round,
            "math",
        )
        for candidate in episode.selected
    ]


if __name__ == "__main__":
    play(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3] if len(sys.argv) > 3 else None, samples.config())

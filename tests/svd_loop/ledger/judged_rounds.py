"""Rounds whose candidates have the votes that a test writes down as `yyn`, for tests of what reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from svd_loop.contracts import (
    Candidate,
    Episode,
    FinishReason,
    PolicyVersion,
    Prompt,
    Rejection,
    Stage,
    TrainingRow,
    Verdict,
    Vote,
    VoteValue,
)
from tests.svd_loop.ledger.samples import StubPolicy, items, record, solve, update, vote

STAGES = (Stage.FACTUALITY, Stage.CORRECTNESS)
"""Votes are cast two a stage."""
VALUES = {"y": VoteValue.YES, "n": VoteValue.NO, "i": VoteValue.INVALID}
TRUNCATED = "-"
"""In place of votes: a candidate that was cut off."""


def judged(prompt_id: str, index: int, votes: str, text: str, words: str, round: int) -> tuple[Candidate, Verdict]:
    """A candidate whose votes end at the first that is not yes."""
    cut = votes == TRUNCATED
    candidate = Candidate(
        prompt_id,
        index,
        text,
        FinishReason.LENGTH if cut else FinishReason.STOP,
        PolicyVersion(round - 1, f"{round}abc"),
        (1, 2, 3),
        (4, 5),
    )
    if cut:
        return candidate, Verdict(prompt_id, index, False, Rejection.TRUNCATED)
    cast = tuple(
        Vote(prompt_id, index, STAGES[place // 2], place % 2, VALUES[letter], f"{words} {place} [[{letter.upper()}]]")
        for place, letter in enumerate(votes)
    )
    refused = next((one for one in cast if one.value is not VoteValue.YES), None)
    if refused is None:
        return candidate, Verdict(prompt_id, index, True, votes=cast)
    return candidate, Verdict(prompt_id, index, False, Rejection.VOTE, refused.stage, refused.vote, cast)


def commit_judged(
    ledger: Any,
    round: int,
    votes: Mapping[str, Sequence[str]],
    *,
    texts: Mapping[str, str] | None = None,
    words: str = "the judge says",
    domains: Mapping[str, str] | None = None,
) -> None:
    """Commit a round of prompts, each with the votes of its candidates, and the calls behind them.

    Args:
        ledger: with the rounds before.
        round: its number; 1 or more.
        votes: by prompt id the votes of each candidate, such as `["yyyy", "yn", "-"]`.
        texts: texts of prompts, each also the beginning of its candidates.
        words: how each vote begins.
        domains: domains of prompts that are not `math`.
    """
    texts, domains = texts or {}, domains or {}
    ledger.record_prompts([Prompt(id, texts.get(id, f"What is {id}?"), domains.get(id, "math"), "a:1") for id in votes])
    played = [
        judged(id, index, cast, f"{texts.get(id, id)} answer {index}", words, round)
        for id, several in votes.items()
        for index, cast in enumerate(several)
    ]
    calls = [solve(one.prompt_id, one.index, round) for one, _ in played]
    calls += [
        vote(one.prompt_id, one.candidate, one.vote, round, one.stage) for _, verdict in played for one in verdict.votes
    ]
    ledger.record(items(calls, StubPolicy(round - 1)))
    accepted = [one for one, verdict in played if verdict.accepted]
    selected = list({one.prompt_id: one for one in reversed(accepted)}.values())[::-1]
    rows = [
        TrainingRow((*one.prompt_ids, *one.token_ids), 3, "accepted", one.prompt_id, one.index, round, "math")
        for one in selected
    ]
    episode = Episode(
        round, len(votes), tuple(one for one, _ in played), tuple(verdict for _, verdict in played), tuple(selected)
    )
    counted = replace(record(round), prompts=len(votes), accepted_prompts=len(selected), rows=len(rows))
    ledger.commit_round(counted, episode, rows, update(round))

"""The mixture of an update."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from svd_loop.contracts import (
    Candidate,
    Episode,
    JudgeRow,
    Prompt,
    Rejection,
    StageName,
    TrainingRow,
    Verdict,
    Vote,
    VoteValue,
)
from svd_loop.loop.replay import Replay, further_candidates, refused_rows, sibling_rows, usable_judge_rows


def row(prompt: int, round: int) -> TrainingRow:
    return TrainingRow((prompt, round, 0), 1, "accepted", prompt_id=f"p{prompt}", round=round)


def judge_row(stage: int, number: int, value: VoteValue | None, round: int) -> JudgeRow:
    ids = (stage, number, 0 if value is None else len(value), round)
    return JudgeRow(TrainingRow(ids, 1, "judge", f"p{number}", number, round), f"stage {stage}", value, "accepted")


def judge_rows_of(count: int, round: int) -> list[JudgeRow]:
    """Judge rows of two stages, of each as many that say yes as no, and a reply that prepares a vote."""
    verdicts = [
        judge_row(stage, number, value, round)
        for stage in range(2)
        for number in range(count)
        for value in (VoteValue.YES, VoteValue.NO)
    ]
    return [*verdicts, judge_row(0, 9, None, round)]


def anchors(count: int, round: int) -> list[TrainingRow]:
    return [TrainingRow((9, index, round), 1, "anchor") for index in range(count)]


rounds = st.integers(2, 6)


@st.composite
def histories(draw: st.DrawFn) -> tuple[int, list[TrainingRow], list[TrainingRow]]:
    current = draw(rounds)
    earlier = [row(p, r) for r in range(1, current) for p in draw(st.sets(st.integers(0, 20), max_size=10))]
    new = [row(p, current) for p in draw(st.sets(st.integers(0, 20), min_size=1, max_size=10))]
    return current, new, earlier


@given(histories(), st.one_of(st.none(), st.integers(0, 4)), st.one_of(st.none(), st.floats(0, 3)), st.integers(0, 99))
def test_a_mixture_keeps_its_promises(
    history: tuple[int, list[TrainingRow], list[TrainingRow]], window: int | None, ratio: float | None, seed: int
) -> None:
    current, new, earlier = history
    replay = Replay(window, ratio, anchor_ratio=0.5, seed=seed, anchors=anchors)
    rows = replay.mix(new, earlier, round=current)
    assert rows == replay.mix(new, earlier, round=current)
    accepted = [item for item in rows if item.origin == "accepted"]
    assert set(new) <= set(accepted)
    assert max(Counter(item.prompt_id for item in accepted).values()) == 1
    replayed = [item for item in accepted if item.round < current]
    assert all(window is None or item.round >= current - window for item in replayed)
    assert ratio is None or len(replayed) <= ratio * len(new)
    assert len(rows) - len(accepted) == -(-len(accepted) // 2)


def test_replay_off_trains_on_the_new_rows_alone() -> None:
    new = [row(1, 3), row(2, 3)]
    assert set(Replay(rounds=0).mix(new, [row(5, 1), row(6, 2)], round=3)) == set(new)


def test_a_prompt_accepted_again_is_replayed_in_its_newest_words_only() -> None:
    mixed = Replay().mix([row(1, 3)], [row(1, 1), row(2, 1), row(2, 2)], round=3)
    assert {(item.prompt_id, item.round) for item in mixed} == {("p1", 3), ("p2", 2)}


def test_anchors_alone_are_no_update() -> None:
    assert Replay(anchor_ratio=1.0, anchors=anchors).mix([], [row(1, 1)], round=2) == []


def test_judge_rows_are_all_taken_and_replayed_up_to_the_share_as_often_yes_as_no() -> None:
    accepted = [row(number, 3) for number in range(20)]
    new, earlier = judge_rows_of(1, 3), [*judge_rows_of(3, 1), *judge_rows_of(3, 2)]
    for share, rounds, count in (
        (0.2, None, 0),
        (0.4, None, 4),
        (0.4, 1, 4),
        (9.0, 1, 12),
        (9.0, None, 24),
        (9.0, 0, 0),
    ):
        mixed = Replay(rounds, judge_share=share).mix(accepted, [], round=3, judged=new, earlier_judged=earlier)
        found = [item for item in mixed if item.origin == "judge"]
        assert {one.row for one in new} <= set(found)
        replayed = [one for one in earlier if one.row in found]
        values = Counter((one.stage, one.value) for one in replayed)
        assert len(replayed) == len(found) - len(new) == count and len(set(values.values())) <= 1
        assert rounds is None or all(one.row.round >= 3 - rounds for one in replayed)
    assert Replay(judge_share=1.0).mix([], [], round=3, judged=new) == []


def test_judge_rows_change_nothing_else_of_a_mixture() -> None:
    new, earlier = [row(number, 3) for number in range(8)], [row(number, 2) for number in range(8, 40)]
    without, with_them = (
        Replay(ratio=0.5, judge_share=1.0).mix(new, earlier, round=3, judged=rows) for rows in ((), judge_rows_of(2, 3))
    )
    assert set(without) == {item for item in with_them if item.origin == "accepted"}


def test_unusable_judge_rows_are_left_out_and_counted() -> None:
    rows = judge_rows_of(2, 1)
    kept, counts = usable_judge_rows(rows, lambda found: (list(found[1:]), {"rows_refused.over_length": 1.0}))
    assert kept == rows[1:]
    assert counts == {"judge_rows.accepted": len(rows) - 1, "judge_rows_refused.over_length": 1.0}
    assert usable_judge_rows([], lambda found: ([], {"rows_refused.over_length": 0.0})) == ([], {})


def test_inherited_rows_are_replayed_as_those_of_an_earlier_round() -> None:
    replay = Replay(inherited=[row(1, 0), row(2, 0), row(3, 0)])
    mixed = replay.mix([row(1, 2)], [row(2, 1)], round=2)
    assert sorted(mixed, key=lambda item: item.prompt_id) == [row(1, 2), row(2, 1), row(3, 0)]
    assert Replay(rounds=0, inherited=[row(3, 0)]).mix([row(1, 1)], [], round=1) == [row(1, 1)]
    assert Replay(inherited=[row(3, 0)]).mix([], [], round=1) == []


def judged(index: int, rejection: Rejection | None, value: VoteValue | None = None, accepted: bool = False) -> Verdict:
    """A verdict; its deciding vote, if any, is the second of `correctness`, between two of yes."""
    if value is None:
        return Verdict("p", index, accepted, rejection)
    read = (VoteValue.YES, value, VoteValue.YES)  # the third was asked ahead
    votes = tuple(Vote("p", index, StageName("correctness"), place + 1, value) for place, value in enumerate(read))
    return Verdict("p", index, accepted, rejection, StageName("correctness"), 2, votes)


def test_rows_beside_the_selected_are_those_refused_with_certainty_and_accepted_siblings() -> None:
    verdicts = (
        judged(0, Rejection.VOTE, VoteValue.NO),
        judged(1, Rejection.VOTE, VoteValue.INVALID),
        judged(2, None, accepted=True),
        judged(3, None),  # not judged to the end
        judged(4, Rejection.STATIC),
        judged(5, Rejection.TRUNCATED),
        judged(6, Rejection.EMPTY),
        judged(7, Rejection.UNDECIDED),
        judged(8, Rejection.OUTVOTED),
    )
    candidates = tuple(Candidate("p", i, f"text {i}", prompt_ids=(1, 2), token_ids=(10 + i, 3)) for i in range(9))
    candidates += (Candidate("p", 9, "also right", prompt_ids=(1, 2), token_ids=(19, 3)),)
    episode = Episode(4, 1, candidates, (*verdicts, judged(9, None, accepted=True)), (candidates[2],))
    others, prompts = further_candidates(episode), [Prompt("p", "question", "math")]
    rows = refused_rows(episode, others, prompts)
    assert [(one.row.candidate, one.stage, one.yes) for one in rows] == [
        (0, "correctness", 1),
        (4, "static", 0),
        (5, "truncated", 0),
    ]
    assert rows[0].row == TrainingRow((1, 2, 10, 3), 2, "refused", "p", 0, 4, "math")
    assert sibling_rows(episode, others, prompts) == [TrainingRow((1, 2, 19, 3), 2, "sibling", "p", 9, 4, "math")]

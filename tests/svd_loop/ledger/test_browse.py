"""Pages of prompts by key, their filters, and one prompt with its candidates and votes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from svd_loop.errors import ConfigError
from svd_loop.ledger import Ledger, LedgerReader
from svd_loop.ledger.browse import (
    calls_of,
    candidates_of,
    find_prompts,
    ids_beginning,
    neighbours,
    newest_calls,
    prompt_of,
    rejections_of,
    rounds_of,
)
from svd_loop.ledger.prompt_filter import PromptFilter
from tests.svd_loop.ledger.judged_rounds import commit_judged
from tests.svd_loop.ledger.samples import commit_rounds, config

ROUND = {
    "all-yes": ["yyyy"],
    "cut": ["-", "n"],
    "mixed": ["yn", "yyyy"],
    "odd": ["i"],
    "split": ["yn", "yyyn"],
}


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LedgerReader]:
    folder = tmp_path_factory.mktemp("browse")
    with Ledger.open(folder, config()) as ledger:
        commit_rounds(ledger, 0)
        texts = {"mixed": "Where do the Otters live?"}
        commit_judged(ledger, 1, ROUND, texts=texts, domains={"odd": "science"})
        commit_judged(ledger, 2, {"mixed": ["n"]}, texts=texts, words="A heron")
    with LedgerReader.open_for_reading(folder) as opened:
        yield opened


def found(reader: LedgerReader, round: int = 1, **conditions: str) -> list[str]:
    return [one.id for one in find_prompts(reader, round, PromptFilter(**conditions)).prompts]


def test_pages_go_by_key_and_end(reader: LedgerReader) -> None:
    first = find_prompts(reader, 1, limit=2)
    assert ([one.id for one in first.prompts], first.after) == (["all-yes", "cut"], "cut")
    second = find_prompts(reader, 1, limit=3, after="cut")
    assert ([one.id for one in second.prompts], second.after) == (["mixed", "odd", "split"], None)


def test_a_page_tells_each_candidates_outcome(reader: LedgerReader) -> None:
    mixed = find_prompts(reader, 1, after="cut", limit=1).prompts[0]
    assert [(mark.accepted, mark.selected, mark.votes, mark.stage) for mark in mixed.marks] == [
        (False, False, "yn", "factuality"),
        (True, True, "yyyy", ""),
    ]
    assert (mixed.accepted, mixed.domain, mixed.words) == (1, "math", "Where do the Otters live?")


@pytest.mark.parametrize(
    ("conditions", "ids"),
    [
        ({"domain": "science"}, ["odd"]),
        ({"outcome": "accepted"}, ["all-yes", "mixed"]),
        ({"outcome": "refused"}, ["cut", "odd", "split"]),
        ({"outcome": "mixed"}, ["mixed"]),
        ({"outcome": "trained"}, ["all-yes", "mixed"]),
        ({"rejection": "truncated"}, ["cut"]),
        ({"rejection": "vote"}, ["cut", "mixed", "odd", "split"]),
        ({"stage": "correctness"}, ["split"]),
        ({"votes": "split"}, ["mixed", "split"]),
        ({"votes": "yn"}, ["mixed", "split"]),
        ({"votes": "*I*"}, ["odd"]),
        ({"votes": "??y*"}, ["all-yes", "mixed", "split"]),
        ({"votes": "split", "stage": "correctness"}, ["split"]),  # one candidate must fulfil both
        ({"votes": "yn", "stage": "correctness"}, []),
        ({"text": "OTTERS"}, ["mixed"]),
        ({"text": "answer 1"}, ["cut", "mixed", "split"]),
        ({"text": "says 3", "outcome": "refused"}, ["split"]),
        ({"text": "nowhere"}, []),
    ],
)
def test_a_filter_keeps_what_it_names(reader: LedgerReader, conditions: dict[str, str], ids: list[str]) -> None:
    assert found(reader, **conditions) == ids


def test_words_are_those_of_the_round(reader: LedgerReader) -> None:
    assert (found(reader, 1, text="heron"), found(reader, 2, text="heron")) == ([], ["mixed"])


def test_a_search_out_of_time_says_where_to_go_on(reader: LedgerReader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("svd_loop.ledger.browse._CHUNK", 2)
    page, ids, looked_at = find_prompts(reader, 1, PromptFilter(outcome="mixed"), seconds=-1), [], 0
    while page.after is not None:
        ids += [one.id for one in page.prompts]
        looked_at += page.looked_at
        page = find_prompts(reader, 1, PromptFilter(outcome="mixed"), after=page.after, seconds=-1)
    assert (ids, looked_at) == (["mixed"], len(ROUND))


def test_neighbours_are_those_of_the_filter(reader: LedgerReader) -> None:
    assert neighbours(reader, 1, "mixed") == ("cut", "odd")
    assert neighbours(reader, 1, "mixed", PromptFilter(votes="*i*")) == (None, "odd")
    assert neighbours(reader, 1, "split", PromptFilter(outcome="accepted")) == ("mixed", None)


def test_a_prompt_has_its_candidates_votes_and_calls(reader: LedgerReader) -> None:
    first, second = candidates_of(reader, 1, "split")
    assert [(vote.value.value, vote.decided) for vote in first.votes] == [("yes", False), ("no", True)]
    assert [vote.words for vote in second.votes][-1] == "the judge says 3 [[N]]"
    assert (second.mark.stage, second.deciding_vote, second.finish_reason) == ("correctness", 1, "stop")
    assert [call.role for call in first.calls] == ["solver", "fact_checker", "fact_checker"]
    assert first.output_tokens > 0 and first.judge_tokens > 0
    cut = candidates_of(reader, 1, "cut")[0]
    assert (cut.mark.rejection, cut.finish_reason, cut.votes) == ("truncated", "length", ())


def test_a_prompt_is_found_by_id_and_round(reader: LedgerReader) -> None:
    assert (rounds_of(reader, "mixed"), rounds_of(reader, "odd"), rounds_of(reader, "none")) == ([1, 2], [1], [])
    assert ids_beginning(reader, "s") == ["split"] and ids_beginning(reader, "%") == []
    assert prompt_of(reader, "none") is None and prompt_of(reader, "odd")["domain"] == "science"


def test_counts_and_newest_replies(reader: LedgerReader) -> None:
    assert rejections_of(reader, 1)[0] == ("vote", "factuality", 4)
    assert [call.prompt_id for call in newest_calls(reader, 1)] == ["mixed"]
    assert calls_of(reader, "mixed", 2, "canary") == []


@pytest.mark.parametrize("wrong", [{"outcome": "maybe"}, {"rejection": "none"}, {"votes": "yes or no"}])
def test_an_unknown_value_lists_the_known_ones(wrong: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=r"accepted|truncated|split"):
        PromptFilter(**wrong)

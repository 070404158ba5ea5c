from __future__ import annotations

from pathlib import Path

from svd_loop.ledger import Ledger, LedgerReader
from svd_loop.ledger.sample import sampled_candidates
from tests.svd_loop.ledger.judged_rounds import commit_judged
from tests.svd_loop.ledger.samples import commit_rounds, config


def test_a_sample_has_both_kinds_is_bounded_and_stays_the_same(tmp_path: Path) -> None:
    with Ledger.open(tmp_path, config()) as ledger:
        commit_rounds(ledger, 0)
        commit_judged(ledger, 1, {f"p{number}": ["yyyy", "yn", "-"] for number in range(9)})
        commit_judged(ledger, 2, {"q": ["yn", "yyyy", "yyyn", "n", "-"]})
    with LedgerReader.open_for_reading(tmp_path) as reader:
        found = sampled_candidates(reader, 1, 6)
        assert [one.candidate.mark.accepted for one in found] == [True] * 3 + [False] * 3
        assert found == sampled_candidates(reader, 1, 6)
        assert found[:1] == sampled_candidates(reader, 1, 1)
        assert [one.prompt["id"] for one in found] != sorted(one.prompt["id"] for one in found)
        assert all(one.candidate.votes and one.prompt["text"] for one in found)
        accepted = [one.candidate.mark.accepted for one in sampled_candidates(reader, 2, 4)]
        assert accepted == [True, False, False, False]  # the kind with too few leaves its places; a cut one is neither
        assert sampled_candidates(reader, 0, 4) == []

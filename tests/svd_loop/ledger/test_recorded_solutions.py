from __future__ import annotations

from pathlib import Path

import pytest

from svd_loop.errors import LedgerError
from svd_loop.ledger import Ledger
from svd_loop.ledger.recorded_solutions import recorded_solutions
from tests.svd_loop.ledger import samples


def test_candidates_of_a_round_are_read_with_their_prompts_in_the_order_asked_for(tmp_path: Path) -> None:
    with Ledger.open(tmp_path / "job", samples.config()) as ledger:
        ledger.record_prompts(samples.PROMPTS)
        samples.commit_rounds(ledger, 2)
        played = samples.episode(2).candidates
        asked = [(played[2].prompt_id, 0), (played[0].prompt_id, 0)]
        found = recorded_solutions(ledger, 2, asked)
        assert [(prompt, one.prompt_id, one.text) for prompt, one in found] == [
            (samples.PROMPTS[place], played[place].prompt_id, played[place].text) for place in (2, 0)
        ]
        with pytest.raises(LedgerError, match="round 2 holds no candidate 9"):
            recorded_solutions(ledger, 2, [(played[0].prompt_id, 9)])

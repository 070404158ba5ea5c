"""Texts and ids of settled candidates: out of memory while the round is played, and the same rows in the end."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from svd_loop.contracts import Candidate
from svd_loop.ledger import Ledger, content_digest
from svd_loop.support.shelved import ShelvedCandidates, by_prompt, held
from tests.svd_loop.ledger import samples

PLAYED = list(zip(samples.episode(1).candidates, samples.episode(1).verdicts, strict=True))


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger.open(tmp_path, samples.config())


def test_shelved_records_hold_no_texts_and_come_back_complete(ledger: Ledger) -> None:
    kept = {(PLAYED[0][0].prompt_id, PLAYED[0][0].index)}
    shelved = ledger.shelve(PLAYED, kept)
    assert shelved[0][0] == PLAYED[0][0]
    assert not any(candidate.text or candidate.token_ids for candidate, _ in shelved[1:])
    assert not any(vote.text for _, verdict in shelved for vote in verdict.votes)
    assert ledger.complete([candidate for candidate, _ in shelved]) == [candidate for candidate, _ in PLAYED]
    assert ledger.shelve(shelved, kept) == shelved  # what is stored stays where it is
    ledger.close()


def test_a_shelved_round_is_committed_as_one_in_memory(tmp_path: Path) -> None:
    digests = []
    for name in ("memory", "shelf"):
        with Ledger.open(tmp_path / name, samples.config()) as ledger:
            samples.commit_rounds(ledger, 0)
            episode = samples.episode(1)
            if name == "shelf":
                chosen = {(one.prompt_id, one.index) for one in episode.selected}
                shelved = ledger.shelve(PLAYED, chosen)
                candidates = ShelvedCandidates([candidate for candidate, _ in shelved], ledger)
                episode = replace(episode, candidates=candidates, verdicts=tuple(verdict for _, verdict in shelved))
            ledger.commit_round(samples.record(1), episode, samples.rows(1), samples.update(1))
            ledger.verify(answers=True)
            digests.append(content_digest(ledger))
    assert digests[0] == digests[1]


def test_shelved_candidates_are_a_sequence_of_complete_ones(ledger: Ledger) -> None:
    originals = [
        Candidate(f"p{number // 2}", number % 2, f"text {number}", token_ids=(number,)) for number in range(600)
    ]
    plain = [(one, samples.verdict(one.prompt_id, accepted=True)) for one in originals]
    candidates = ShelvedCandidates([one for one, _ in ledger.shelve(plain, ())], ledger)
    assert len(candidates) == 600
    assert list(candidates) == originals
    assert candidates[7] == originals[7]
    assert list(candidates[598:]) == originals[598:]
    groups = by_prompt(candidates)
    assert list(groups["p3"]) == originals[6:8] and held(groups["p3"])[0].text == ""
    assert by_prompt(originals)["p3"] == originals[6:8]
    ledger.close()

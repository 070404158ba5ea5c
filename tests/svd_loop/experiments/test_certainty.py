"""Self-certainty against its formula, row by row."""

from __future__ import annotations

import pytest
import torch

from policies.versions.checkpoints import load_model
from policies.versions.stored import StoredVersion
from policies.versions.weights import WeightStore
from svd_loop.contracts import Candidate
from svd_loop.experiments import certainty
from svd_loop.experiments.certainty import self_certainty
from svd_loop.nano import NANO_CHECKPOINT

ROWS = [((5, 6, 7), (8, 9)), ((5,), (10, 11, 12, 13)), ((20, 21, 22, 23), (24,))]


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> StoredVersion:
    store = WeightStore(tmp_path_factory.mktemp("versions"))
    store.add_base(NANO_CHECKPOINT)
    return store.load(0)


def candidates() -> list[Candidate]:
    return [Candidate(f"p{i}", 0, "", prompt_ids=prompt, token_ids=ids) for i, (prompt, ids) in enumerate(ROWS)]


def by_hand(model: torch.nn.Module, prompt: tuple[int, ...], ids: tuple[int, ...]) -> float:
    logits = model(input_ids=torch.tensor([[*prompt, *ids]])).logits[0].double()
    at = range(len(prompt) - 1, len(prompt) + len(ids) - 1)  # the distributions the answer's tokens were drawn from
    uniform = torch.full((logits.shape[-1],), 1.0 / logits.shape[-1], dtype=torch.float64)
    divergences = [(uniform * (uniform.log() - torch.log_softmax(logits[place], 0))).sum() for place in at]
    return float(torch.stack(divergences).mean())


@pytest.mark.parametrize("row_tokens", [32_768, 7])
def test_it_is_the_mean_divergence_from_uniform_whatever_the_batches(
    stored: StoredVersion, monkeypatch: pytest.MonkeyPatch, row_tokens: int
) -> None:
    monkeypatch.setattr(certainty, "ROW_TOKENS", row_tokens)
    model = load_model(stored, device="cpu").eval()
    with torch.inference_mode():
        expected = [by_hand(model, *row) for row in ROWS]
    assert self_certainty(stored, candidates(), device="cpu") == pytest.approx(expected, rel=1e-4)
    assert len(set(expected)) == len(ROWS)


def test_nothing_to_score(stored: StoredVersion) -> None:
    assert self_certainty(stored, [], device="cpu") == []

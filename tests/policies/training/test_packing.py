"""Packed rows train as padded ones do where the attention isolates them, and are refused where it does not."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from transformers import AttentionInterface
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from policies.training.isolation import require_isolation
from policies.training.rows import dataset_columns
from policies.versions.checkpoints import load_model
from policies.versions.weights import WeightStore
from svd_loop.contracts import TrainingRow
from svd_loop.errors import ConfigError
from tests.policies.conftest import make_model
from tests.policies.updates import parent, rows, updater

PACKED = DataCollatorForLanguageModeling(pad_token_id=0, padding_free=True)
PADDED = DataCollatorForLanguageModeling(pad_token_id=0)


def gradients(model: torch.nn.Module, collate: DataCollatorForLanguageModeling) -> tuple[float, list[torch.Tensor]]:
    columns = dataset_columns(rows())
    examples = [dict(zip(columns, pair, strict=True)) for pair in zip(*columns.values(), strict=True)]
    model.zero_grad()
    loss = model(**collate(examples), use_cache=False).loss
    loss.backward()
    return float(loss), [parameter.grad.clone() for parameter in model.parameters()]


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_packed_loss_and_gradients_are_those_of_padded_rows(attention: str) -> None:
    model = make_model(attn_implementation=attention)
    (packed, packed_gradients), (padded, padded_gradients) = gradients(model, PACKED), gradients(model, PADDED)
    assert packed == pytest.approx(padded, rel=1e-5)
    for one, other in zip(packed_gradients, padded_gradients, strict=True):
        assert torch.allclose(one, other, atol=1e-5)
    require_isolation(model, rows(), PACKED, "float32")


def test_a_packed_update_is_the_padded_one(tmp_path: Path, checkpoint: Path) -> None:
    for name, packing in (("padded", False), ("packed", True)):
        work = updater(tmp_path / name, checkpoint, packing=packing, attention="sdpa", micro_batch_size=2)
        work.fit(rows(), round=1, parent=parent(tmp_path / name))
    one, other = (
        load_model(WeightStore(tmp_path / name / "versions").load(1), device="cpu").state_dict()
        for name in ("padded", "packed")
    )
    assert all(torch.allclose(one[name], other[name], atol=1e-5) for name in one)


@pytest.fixture
def leaky() -> Iterator[str]:
    """An attention that knows causality alone, as a kernel without variable lengths does."""

    def attend(
        module: torch.nn.Module, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: object, **_: object
    ) -> tuple[torch.Tensor, None]:
        groups = query.shape[1] // key.shape[1]
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
        out = torch.nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        return out.transpose(1, 2).contiguous(), None

    AttentionInterface.register("leaky", attend)
    yield "leaky"
    del AttentionInterface._global_mapping["leaky"]


def test_an_attention_that_lets_rows_see_each_other_is_refused(leaky: str, tmp_path: Path, checkpoint: Path) -> None:
    model = make_model()
    model.set_attn_implementation(leaky)
    with pytest.raises(ConfigError, match=r"update\.packing: with the attention 'leaky' .* rows see each other"):
        require_isolation(model, rows(), PACKED, "float32")
    with pytest.raises(ConfigError, match=r"update\.packing: false, or update\.attention"):
        require_isolation(model, rows(1), PACKED, "float32")
    (packed, _), (padded, _) = gradients(model, PACKED), gradients(model, PADDED)
    assert packed != pytest.approx(padded, rel=1e-3)  # what the probe stands for


def test_wrong_positions_are_refused_though_rows_are_isolated() -> None:
    def forgetful(examples: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
        batch = PACKED(examples)
        if len(examples) > 1:
            batch["position_ids"] = torch.where(batch["position_ids"] > 0, batch["position_ids"] * 3, 0)
        return batch

    with pytest.raises(ConfigError, match="off those of the row alone"):
        require_isolation(make_model(), rows(), forgetful, "float32")


def test_an_attention_that_is_not_there_is_named(tmp_path: Path, checkpoint: Path) -> None:
    with pytest.raises(ConfigError, match=r"update\.attention: flash_attention_2 cannot be used"):
        updater(tmp_path, checkpoint, attention="flash_attention_2").fit(rows(), round=1, parent=parent(tmp_path))


def test_long_rows_are_probed_by_their_beginnings() -> None:
    long = [TrainingRow((1, *[7 + i % 90 for i in range(400 + place)], 2), 5, "accepted") for place in range(2)]
    require_isolation(make_model(), long, PACKED, "float32")

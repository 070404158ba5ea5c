"""Updates with the real trainer on a tiny model."""

import json
import math
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from policies.training.rows import share_of_batch
from policies.training.run import TrainingTask
from policies.versions import precision
from policies.versions.checkpoints import export_merged, load_model
from policies.versions.stored import read_manifest, stored_version
from policies.versions.weights import WeightStore
from svd_loop.config.update import LoraSection
from svd_loop.contracts import TrainingRow, UpdateResult
from svd_loop.errors import TrainingError
from tests.policies.updates import STOP, parent, rows, settings, updater

Trained = Callable[..., tuple[Path, UpdateResult]]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path) -> Trained:
    """What an update of these settings yields on `rows()`, and its folder: both are shared, and not written to."""

    @cache
    def train(**settings: object) -> tuple[Path, UpdateResult]:
        folder = tmp_path_factory.mktemp("trained")
        return folder, updater(folder, checkpoint, **settings).fit(rows(), round=1, parent=parent(folder))

    return train


def test_an_update_lowers_the_loss_and_leaves_nothing_but_versions(tmp_path: Path, checkpoint: Path) -> None:
    result = updater(tmp_path, checkpoint, epochs=10.0).fit(rows(), round=1, parent=parent(tmp_path))
    assert (result.rows, result.steps, result.version.round) == (12, 30, 1)
    assert result.metrics["final_loss"] < result.metrics["loss"]
    assert result.metrics["tokens_per_second"] > 0 and math.isfinite(result.metrics["gradient_norm"])
    assert sorted(path.name for path in (tmp_path / "versions").iterdir()) == ["round-000", "round-001"]


@pytest.mark.parametrize("method", ["full", "lora"])
def test_the_same_rows_give_the_same_bits(tmp_path: Path, checkpoint: Path, trained: Trained, method: str) -> None:
    _, first = trained(method=method)
    second = updater(tmp_path / "b", checkpoint, method=method).fit(rows(), round=1, parent=parent(tmp_path / "b"))
    assert first.version == second.version
    other = updater(tmp_path / "c", checkpoint, method=method).fit(rows(11), round=1, parent=parent(tmp_path / "c"))
    assert other.version != first.version


def uneven(count: int = 12) -> list[TrainingRow]:
    """Rows with 2 to 11 supervised tokens: a mean of the micro-batches' means is not the mean over the tokens."""
    return [TrainingRow((1, 10, 11, *range(20, 21 + 3 * (i % 4)), STOP), 3, "accepted", f"p{i}") for i in range(count)]


TWO_STEPS = {"batch_size": 6, "steps": 2, "schedule": "constant", "warmup": 0.0}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path) -> tuple[UpdateResult, dict[str, torch.Tensor]]:
    """Two steps of whole batches of `uneven()`, and their weights."""
    folder = tmp_path_factory.mktemp("whole")
    result = updater(folder, checkpoint, **TWO_STEPS).fit(uneven(), round=1, parent=parent(folder))
    return result, load_model(WeightStore(folder / "versions").load(1), device="cpu").state_dict()


@pytest.mark.parametrize("at_most", [1, 3, 5])
def test_micro_batches_give_the_step_of_the_whole_batch(
    tmp_path: Path, checkpoint: Path, whole: tuple[UpdateResult, dict[str, torch.Tensor]], at_most: int
) -> None:
    expected, one = whole
    parts = updater(tmp_path, checkpoint, micro_batch_size=at_most, **TWO_STEPS).fit(
        uneven(), round=1, parent=parent(tmp_path)
    )
    for name in ("loss", "final_loss", "gradient_norm", "tokens", "supervised_tokens", "steps"):
        assert parts.metrics[name] == pytest.approx(expected.metrics[name], rel=1e-4), name
    other = load_model(WeightStore(tmp_path / "versions").load(1), device="cpu").state_dict()
    # Adam's first step is the learning rate times the sign of the gradient: compare where the sign is certain.
    assert all(torch.isclose(one[name], other[name], atol=1e-5).float().mean() > 0.95 for name in one)


def test_forward_passes_divide_the_share_of_a_process() -> None:
    assert [share_of_batch(64, 1, most) for most in (None, 64, 100, 24, 7, 1)] == [64, 64, 64, 16, 4, 1]
    assert [share_of_batch(64, 4, most) for most in (None, 12)] == [16, 8]


def test_a_cosine_ends_at_its_minimum_rate(tmp_path: Path, checkpoint: Path) -> None:
    def mean_rate(name: str, **run: object) -> float:
        folder = tmp_path / name
        return (
            updater(folder, checkpoint, steps=4, warmup=0.0, **run)
            .fit(rows(4), round=1, parent=parent(folder))
            .metrics["learning_rate"]
        )

    share = sum(1 + math.cos(step * math.pi / 4) for step in range(4)) / 8
    assert mean_rate("zero") == pytest.approx(1e-3 * share)
    assert mean_rate("tenth", minimum_rate=0.1) == pytest.approx(1e-3 * (0.1 + 0.9 * share))
    with pytest.raises(ValueError, match=r"update\.minimum_rate: 0\.1 needs update\.schedule: cosine \(it is linear\)"):
        settings(minimum_rate=0.1, schedule="linear")


def test_one_step_is_the_step_of_a_bare_loop(tmp_path: Path, checkpoint: Path) -> None:
    result = updater(tmp_path, checkpoint, steps=1, batch_size=12, schedule="constant", warmup=0.0).fit(
        rows(), round=1, parent=parent(tmp_path)
    )
    store = WeightStore(tmp_path / "versions")
    model = load_model(store.load(0), device="cpu").train()
    total, count = torch.tensor(0.0), 0
    for row in rows():
        ids = torch.tensor([row.input_ids])
        log_probabilities = model(ids).logits[0, :-1].log_softmax(-1)
        targets = ids[0, 1:]
        loss = -log_probabilities.gather(1, targets[:, None]).squeeze(1)[row.supervised_from - 1 :]
        total, count = total + loss.sum(), count + len(loss)
    (total / count).backward()
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.0).step()
    assert result.metrics["loss"] == pytest.approx(float(total / count), rel=1e-4)
    assert result.metrics["gradient_norm"] == pytest.approx(float(norm), rel=1e-3)
    trained = load_model(store.load(1), device="cpu").state_dict()
    for name, weight in model.state_dict().items():
        # Adam's first step is the learning rate times the sign of the gradient: compare where the sign is certain.
        assert torch.isclose(weight, trained[name], atol=1e-4).float().mean() > 0.98, name


def test_an_update_of_one_step_learns_in_spite_of_warming_up(tmp_path: Path, checkpoint: Path) -> None:
    result = updater(tmp_path, checkpoint, steps=1).fit(rows(), round=1, parent=parent(tmp_path))
    assert result.metrics["learning_rate"] == result.metrics["largest_learning_rate"] == 1e-3
    before, after = (load_model(WeightStore(tmp_path / "versions").load(i), device="cpu").state_dict() for i in (0, 1))
    assert not torch.equal(before["model.norm.weight"], after["model.norm.weight"])


def test_a_finished_update_is_not_repeated(checkpoint: Path, trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, first = trained(method="full")
    again = updater(folder, checkpoint)
    monkeypatch.setattr(again, "run", None)
    assert again.fit(rows(), round=1, parent=parent(folder)) == first


def test_an_interrupted_update_goes_on_to_the_same_weights(
    tmp_path: Path, checkpoint: Path, trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, whole = trained(method="full")
    interrupted = updater(tmp_path / "b", checkpoint, checkpoint_steps=2)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(interrupted, "_save", killed)
        interrupted.fit(rows(), round=1, parent=parent(tmp_path / "b"))
    work = next((tmp_path / "b" / "versions").glob("training-001-*"))
    newest = max(work.glob("checkpoint-*"), key=lambda path: int(path.name.partition("-")[2]))
    (newest / "trainer_state.json").write_text('{"cut', encoding="utf-8")  # the write that was cut off
    stale = work.with_name("training-001-of-other-rows")
    stale.mkdir()
    again = updater(tmp_path / "b", checkpoint, checkpoint_steps=2)
    resumed = again.fit(rows(), round=1, parent=parent(tmp_path / "b"))
    assert resumed.version == whole.version
    assert not work.exists() and not stale.exists()


@pytest.mark.parametrize("method", ["full", "lora"])
def test_checkpoints_to_choose_from_are_the_weights_of_their_steps(
    tmp_path: Path, checkpoint: Path, method: str
) -> None:
    run = {"steps": 5, "method": method, "schedule": "constant", "warmup": 0.0, "batch_size": 12}
    equal = [TrainingRow((1, 10, 11, 20 + i, 30, STOP), 3, "accepted", f"p{i}") for i in range(12)]
    result = updater(tmp_path / "a", checkpoint, choose_from=3, **run).fit(
        equal, round=1, parent=parent(tmp_path / "a")
    )
    assert (result.candidates, result.steps) == ((2, 4, 5), 5)
    store = WeightStore(tmp_path / "a" / "versions")
    early, last = (stored_version(store.step_path(1, step)) for step in (2, 5))
    assert last.version == result.version == store.load(1).version
    assert early.kind == store.load(1).kind and read_manifest(early.path).steps == 2
    plain = updater(tmp_path / "b", checkpoint, **run).fit(equal, round=1, parent=parent(tmp_path / "b"))
    assert plain.version == result.version and plain.candidates == ()
    short = updater(tmp_path / "c", checkpoint, **{**run, "steps": 2}).fit(
        equal, round=1, parent=parent(tmp_path / "c")
    )
    one, other = (load_model(stored, device="cpu").state_dict() for stored in (early, stored_version(short.path)))
    base = load_model(store.load(0), device="cpu").state_dict()
    for name in one:  # rows come in another order: compare where rounding cannot change the sign of a gradient
        moved = not torch.equal(one[name], base[name])
        assert not moved or torch.isclose(one[name], other[name], atol=1e-5).float().mean() > 0.95, name
    assert any(not torch.equal(one[name], base[name]) for name in one)
    assert sorted(path.name for path in store.folder.iterdir()) == ["round-000", "round-001", "steps-001"]


def test_an_update_killed_after_a_checkpoint_has_the_same_ones_in_the_end(
    tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = {"steps": 6, "choose_from": 3}
    whole = updater(tmp_path / "a", checkpoint, **run).fit(rows(), round=1, parent=parent(tmp_path / "a"))
    interrupted = updater(tmp_path / "b", checkpoint, checkpoint_steps=3, **run)
    write, written = interrupted._store.write, []

    def killed(*arguments: object, **named: object) -> object:
        if len(written) == 1:
            raise KeyboardInterrupt
        written.append(write(*arguments, **named))
        return written[0]

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(interrupted._store, "write", killed)
        interrupted.fit(rows(), round=1, parent=parent(tmp_path / "b"))
    work = next((tmp_path / "b" / "versions").glob("training-001-*"))
    shutil.rmtree(work / "checkpoint-6")  # so that it goes on from step 3, behind the first checkpoint to choose from
    resumed = updater(tmp_path / "b", checkpoint, checkpoint_steps=3, **run).fit(
        rows(), round=1, parent=parent(tmp_path / "b")
    )
    assert (resumed.version, resumed.candidates) == (whole.version, (2, 4, 6))
    stores = [WeightStore(tmp_path / name / "versions") for name in "ab"]
    for step in (2, 4, 6):
        one, other = (stored_version(store.step_path(1, step)).version for store in stores)
        assert one == other
    chosen = stores[1].choose(1, 2)
    again = updater(tmp_path / "b", checkpoint, checkpoint_steps=3, **run)
    monkeypatch.setattr(again, "run", None)
    assert again.fit(rows(), round=1, parent=parent(tmp_path / "b")).candidates == (2, 4, 6)
    assert stores[1].load(1).version == chosen.version


def test_unusable_rows_are_refused_with_counts(tmp_path: Path, checkpoint: Path) -> None:
    bad = [
        *rows(3),
        TrainingRow((1, 5, STOP), 3, "accepted", "all-prompt"),
        TrainingRow((1, 5, 6), 1, "accepted", "cut-off"),
        TrainingRow((1, 5, 7), 1, "accepted", "cut-off-too"),
        TrainingRow((1, *[9] * 70, STOP), 1, "accepted", "long"),
    ]
    with pytest.raises(TrainingError) as caught:
        updater(tmp_path, checkpoint).fit(bad, round=1, parent=parent(tmp_path))
    message = str(caught.value)
    assert "7 rows" in message and "1 without a supervised token" in message and "(such as all-prompt)" in message
    assert "2 do not end in a stop token" in message and "1 longer than update.max_length: 64" in message
    with pytest.raises(TrainingError, match="no rows"):
        updater(tmp_path, checkpoint).fit([], round=1, parent=parent(tmp_path))


def test_a_loss_that_is_not_finite_names_the_learning_rate(tmp_path: Path, checkpoint: Path) -> None:
    diverging = updater(tmp_path, checkpoint, learning_rate=1e18, warmup=0.0, schedule="constant", epochs=8.0)
    with pytest.raises(TrainingError, match=r"update\.learning_rate"):
        diverging.fit(rows(), round=1, parent=parent(tmp_path))
    assert WeightStore(tmp_path / "versions").rounds() == [0]


def test_out_of_memory_halves_the_micro_batch_once(
    tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    limited = updater(tmp_path, checkpoint)
    train, sizes = limited.run, []

    def scarce(task: TrainingTask, rows: list[TrainingRow]) -> object:
        sizes.append(task.micro_batch)
        if sizes[-1] > limit:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return train(task, rows)

    monkeypatch.setattr(limited, "run", scarce)
    limit = 2
    assert limited.fit(rows(), round=1, parent=parent(tmp_path)).steps == 6
    assert sizes == [4, 2] and "update.micro_batch_size" in caplog.text
    limit = 1
    with pytest.raises(TrainingError, match="even with 2 rows"):
        limited.fit(rows(11), round=2, parent=parent(tmp_path))


def test_gradient_checkpointing_changes_memory_and_nothing_else(
    tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recomputed = []
    again = torch.utils.checkpoint.checkpoint
    monkeypatch.setattr(
        "transformers.modeling_utils.checkpoint", lambda *args, **kwargs: recomputed.append(1) or again(*args, **kwargs)
    )
    plain = updater(tmp_path / "a", checkpoint).fit(rows(), round=1, parent=parent(tmp_path / "a"))
    assert not recomputed
    saving = updater(tmp_path / "b", checkpoint, gradient_checkpointing=True).fit(
        rows(), round=1, parent=parent(tmp_path / "b")
    )
    assert recomputed
    assert saving.metrics["loss"] == pytest.approx(plain.metrics["loss"], rel=1e-5)


def test_half_precision_is_used_where_the_processor_has_it_and_refused_aloud_elsewhere(
    tmp_path: Path,
    checkpoint: Path,
    trained: Trained,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fit(name: str, **settings: object) -> UpdateResult:
        return updater(tmp_path / name, checkpoint, **settings).fit(rows(), round=1, parent=parent(tmp_path / name))

    _, exact = trained(method="full")
    monkeypatch.setattr(precision, "has_bfloat16", lambda on_gpu: True)
    half = fit("half", bf16=True)
    assert half.version != exact.version
    assert half.metrics["loss"] == pytest.approx(exact.metrics["loss"], rel=0.02)  # eight bits of mantissa
    assert not caplog.text
    monkeypatch.setattr(precision, "has_bfloat16", lambda on_gpu: False)
    assert fit("without", bf16=True).version == exact.version
    assert "update.bf16: true needs a GPU, or a processor with instructions for it" in caplog.text


def test_lora_trains_all_linear_layers_and_rank_stabilises_the_scale(tmp_path: Path, checkpoint: Path) -> None:
    for name, rslora in (("plain", False), ("stable", True)):
        lora = LoraSection(rank=4, alpha=8, rslora=rslora).model_dump()
        updater(tmp_path / name, checkpoint, method="lora", lora=lora).fit(
            rows(), round=1, parent=parent(tmp_path / name)
        )
    config = json.loads((tmp_path / "stable" / "versions" / "round-001" / "adapter_config.json").read_text())
    assert config["use_rslora"] is True
    assert {name.rpartition(".")[2] for name in config["target_modules"]} == {
        "q_proj",
        "k_proj",
        "v_proj",
        "o_proj",
        "gate_proj",
        "up_proj",
        "down_proj",
    }
    plain, stable = (
        load_model(WeightStore(tmp_path / name / "versions").load(1), device="cpu").state_dict()
        for name in ("plain", "stable")
    )
    assert not torch.equal(plain["model.layers.0.mlp.up_proj.weight"], stable["model.layers.0.mlp.up_proj.weight"])


def test_from_the_base_a_round_knows_only_its_own_rows(tmp_path: Path, checkpoint: Path) -> None:
    """`start: base` on accumulated data, `previous` on top of what there is: one adapter either way, never a stack."""
    for start in ("base", "previous"):
        again = updater(tmp_path / start, checkpoint, method="lora", start=start)
        first = again.fit(rows(6), round=1, parent=parent(tmp_path / start))
        again.fit(rows(), round=2, parent=first.path)
    fresh = updater(tmp_path / "fresh", checkpoint, method="lora", start="base")
    fresh.fit(rows(), round=2, parent=parent(tmp_path / "fresh"))
    base, previous, alone = (
        WeightStore(tmp_path / name / "versions").load(2) for name in ("base", "previous", "fresh")
    )
    assert base.version == alone.version and base.parent == 0
    assert previous.version != alone.version and previous.parent == 1
    assert previous.base_path == base.base_path == checkpoint.resolve()


def test_usable_rows_are_kept_and_the_others_counted(
    tmp_path: Path, checkpoint: Path, caplog: pytest.LogCaptureFixture
) -> None:
    long = TrainingRow((1, *[9] * 70, STOP), 1, "accepted", "long")
    cut = TrainingRow((1, 5, 6), 1, "accepted", "cut-off")
    both = TrainingRow((1, *[9] * 70), 1, "accepted", "both")
    kept, counts = updater(tmp_path, checkpoint).usable([*rows(3), long, cut, both])
    assert kept == rows(3)
    assert counts == {
        "rows_refused.no_supervised_token": 0,
        "rows_refused.no_stop_token": 2,
        "rows_refused.over_length": 2,
    }
    assert "3 of 6 rows are left out of training" in caplog.text and "such as long" in caplog.text
    assert updater(tmp_path, checkpoint).usable([]) == ([], dict.fromkeys(counts, 0))
    with pytest.raises(TrainingError, match=r"none of 1 rows .* longer than update\.max_length: 64"):
        updater(tmp_path, checkpoint).usable([long])


def test_lora_stores_the_adapter_and_goes_on_from_it(tmp_path: Path, checkpoint: Path) -> None:
    lora = updater(tmp_path, checkpoint, method="lora", lora=LoraSection(rank=4, alpha=8).model_dump())
    first = lora.fit(rows(), round=1, parent=parent(tmp_path))
    second = lora.fit(rows(), round=2, parent=first.path)
    assert second.metrics["loss"] < first.metrics["loss"]
    stored = WeightStore(tmp_path / "versions").load(2)
    assert (stored.kind, stored.parent, stored.base_path) == ("lora", 1, checkpoint.resolve())
    assert (stored.path / "adapter_model.safetensors").exists() and not (stored.path / "model.safetensors").exists()
    exact, half = (load_model(stored, dtype=dtype, device="cpu") for dtype in ("float32", "bfloat16"))
    for name, weights in exact.named_parameters():
        assert torch.equal(half.get_parameter(name), weights.bfloat16())
    for name, buffer in exact.named_buffers():  # the frequencies of rotary positions are never rounded
        assert torch.equal(half.get_buffer(name), buffer)


@pytest.mark.parametrize("method", ["full", "lora"])
def test_the_exported_checkpoint_answers_like_the_version(tmp_path: Path, trained: Trained, method: str) -> None:
    folder, _ = trained(method=method)
    stored = WeightStore(folder / "versions").load(1)
    export_merged(stored, tmp_path / "out")
    ids = torch.tensor([rows()[0].input_ids])
    with torch.no_grad():
        exported = AutoModelForCausalLM.from_pretrained(tmp_path / "out")(ids).logits
        expected = load_model(stored, device="cpu")(ids).logits
        base = load_model(WeightStore(folder / "versions").load(0), device="cpu")(ids).logits
    assert torch.allclose(exported, expected, atol=1e-5) and not torch.allclose(exported, base, atol=1e-3)
    assert AutoTokenizer.from_pretrained(tmp_path / "out").chat_template

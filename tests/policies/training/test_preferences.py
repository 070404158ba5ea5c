"""Preference updates with TRL's trainers on a tiny model."""

import math
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer

from policies.training.dpo import DpoUpdater
from policies.training.grpo import GrpoUpdater
from policies.training.kto import KtoUpdater
from policies.training.preferences import PreferenceUpdater
from policies.versions.checkpoints import load_model
from policies.versions.weights import WeightStore
from svd_loop.contracts import RefusedRow, TrainingRow, UpdateMaterial
from svd_loop.errors import TrainingError
from tests.policies.updates import STOP, parent, rows, settings

CLASSES: dict[str, type[PreferenceUpdater]] = {"dpo": DpoUpdater, "grpo": GrpoUpdater, "kto": KtoUpdater}


def updater(folder: Path, checkpoint: Path, kind: str, algorithm: dict[str, Any] | None = None, **keys: Any) -> Any:
    store = WeightStore(folder / "versions")
    store.add_base(checkpoint)
    return CLASSES[kind](
        store,
        settings(algorithm={"type": kind, **(algorithm or {})}, **keys),
        tokenizer=AutoTokenizer.from_pretrained(checkpoint),
        stop_ids={STOP, 3},
        pad_id=0,
        device="cpu",
        config_digest="c",
    )


def accepted(count: int = 4, round: int = 1) -> list[TrainingRow]:
    return [TrainingRow((1, 10 + i, 20, 30 + i, STOP), 3, "accepted", f"p{i}", 0, round) for i in range(count)]


def refused(prompt: int, *answers: tuple[int, ...], stage: str = "correctness") -> list[RefusedRow]:
    return [
        RefusedRow(TrainingRow((1, 10 + prompt, 20, *ids), 3, "refused", f"p{prompt}", place + 1, 1), stage)
        for place, ids in enumerate(answers)
    ]


def material(anchors: int = 3) -> UpdateMaterial:
    plain = [TrainingRow((1, 40 + i, 41, STOP), 2, "anchor") for i in range(anchors)]
    return UpdateMaterial([*accepted(), *plain], [*refused(0, (50, STOP), (51, 52, 3)), *refused(2, (53, STOP))])


def log_probability(folder: Path, round: int, row: TrainingRow) -> float:
    model = load_model(WeightStore(folder / "versions").load(round), device="cpu")
    with torch.no_grad():
        scores = torch.log_softmax(model(torch.tensor([row.input_ids])).logits[0].float(), -1)
    places = range(row.supervised_from, len(row.input_ids))
    return sum(float(scores[place - 1, row.input_ids[place]]) for place in places)


@pytest.mark.parametrize("method", ["full", "lora"])
@pytest.mark.parametrize("kind", CLASSES)
def test_refused_answers_become_less_likely_than_accepted_ones(
    tmp_path: Path, checkpoint: Path, kind: str, method: str
) -> None:
    learner = updater(tmp_path, checkpoint, kind, epochs=5.0, method=method, learning_rate=3e-3)
    data = material()
    result = learner.learn(data, round=1, parent=parent(tmp_path))
    better, worse = data.rows[0], data.refused[0].row
    gains = [log_probability(tmp_path, 1, row) - log_probability(tmp_path, 0, row) for row in (better, worse)]
    assert gains[0] > 0 and gains[0] - gains[1] > 0.5
    assert math.isfinite(result.metrics["kl"])
    if kind == "grpo":
        assert 0 < result.metrics["reward"] < 1 and result.metrics["entropy"] > 0
    else:
        assert result.metrics["reward_margin"] > 0
    assert result.metrics["preferences"] == {"dpo": 3, "grpo": 5, "kto": 7}[kind]
    assert result.metrics["refused_used.correctness"] == 3
    last = updater(tmp_path, checkpoint, kind, steps=1, method=method)
    second = last.learn(data, round=2, parent=WeightStore(tmp_path / "versions").load(1).path)
    assert second.version.round == 2 and WeightStore(tmp_path / "versions").load(2).kind == method
    names = {path.name for path in second.path.iterdir()}
    assert "ref" not in names  # the reference's adapter is no part of the version


@pytest.mark.parametrize("kind", CLASSES)
def test_the_first_loss_is_that_of_exactly_the_sampled_ids(
    tmp_path: Path, checkpoint: Path, kind: str, capfd: pytest.CaptureFixture[str]
) -> None:
    data = material()
    size = {"dpo": 10, "grpo": 12, "kto": 14}[kind]
    learner = updater(tmp_path, checkpoint, kind, steps=1, batch_size=size)
    capfd.readouterr()
    metrics = learner.learn(data, round=1, parent=parent(tmp_path)).metrics
    assert "log probs" not in capfd.readouterr().err  # no progress bars of the trainer's own
    tokens = sum(len(row.input_ids) - row.supervised_from for row in data.rows)
    expected = -sum(log_probability(tmp_path, 0, row) for row in data.rows) / tokens
    assert metrics["sft_loss"] == pytest.approx(expected, rel=1e-4)
    # Before the first step the policy is its reference: every margin is 0, every ratio 1.
    assert metrics["preference_loss"] == pytest.approx({"dpo": math.log(2), "grpo": 0, "kto": 0.5}[kind], abs=1e-5)
    assert metrics["kl" if kind == "grpo" else "reward_margin"] == pytest.approx(0.0, abs=1e-5)
    assert metrics["loss"] == pytest.approx(metrics["sft_loss"] + metrics["preference_loss"], rel=1e-4)
    pairs = sum(len(one.row.input_ids) for one in data.refused)
    own = sum(len(row.input_ids) for row in data.rows)
    assert kind != "grpo" or metrics["reward"] == pytest.approx(2 / 5)
    twice = {"dpo": 5 * 3, "grpo": 5 * 2, "kto": 5 * 4}[kind]  # accepted answers in the preference term
    assert metrics["tokens"] == own + pairs + twice


@pytest.mark.parametrize("kind", ["dpo", "grpo"])
def test_forward_passes_do_not_change_the_step(tmp_path: Path, checkpoint: Path, kind: str) -> None:
    run = {"batch_size": 10, "steps": 2, "schedule": "constant", "warmup": 0.0}
    whole = updater(tmp_path / "a", checkpoint, kind, **run).learn(material(), round=1, parent=parent(tmp_path / "a"))
    parts = updater(tmp_path / "b", checkpoint, kind, micro_batch_size=2, **run).learn(
        material(), round=1, parent=parent(tmp_path / "b")
    )
    for name in ("loss", "final_loss", "gradient_norm"):
        assert parts.metrics[name] == pytest.approx(whole.metrics[name], rel=1e-4), name


@pytest.mark.parametrize("kind", CLASSES)
def test_an_interrupted_update_continues_to_the_same_bits(tmp_path: Path, checkpoint: Path, kind: str) -> None:
    run = {"epochs": 2.0, "checkpoint_steps": 2, "choose_from": 2}
    whole = updater(tmp_path / "a", checkpoint, kind, **run).learn(material(), round=1, parent=parent(tmp_path / "a"))
    torn = updater(tmp_path / "b", checkpoint, kind, **run)
    train = torn.train

    def interrupted(task: Any, items: Any, on_step: Any) -> Any:
        def stop(step: int) -> None:
            if step == 3:
                raise KeyboardInterrupt

        return train(task, items, stop)

    torn.train = interrupted
    with pytest.raises(KeyboardInterrupt):
        torn.learn(material(), round=1, parent=parent(tmp_path / "b"))
    again = updater(tmp_path / "b", checkpoint, kind, **run)
    resumed = again.learn(material(), round=1, parent=parent(tmp_path / "b"))
    assert resumed.version == whole.version
    assert resumed.metrics["kl"] == whole.metrics["kl"]
    again.train = None  # not repeated
    assert again.learn(material(), round=1, parent=parent(tmp_path / "b")).version == whole.version
    assert len(whole.candidates) == 2 and resumed.candidates == whole.candidates
    earlier = [WeightStore(tmp_path / name / "versions").choose(1, whole.candidates[0]).version for name in "ab"]
    assert earlier[0] == earlier[1] != whole.version  # kept before the interruption, or again after it


@pytest.mark.parametrize("kind", CLASSES)
def test_candidates_that_came_near_to_being_accepted_can_be_left_out(
    tmp_path: Path, checkpoint: Path, kind: str
) -> None:
    nearer = [replace(one, yes=place) for place, one in enumerate(refused(0, (50, STOP), (51, STOP), (52, STOP)))]
    used = {}
    for most in (None, 0, 1):
        learner = updater(tmp_path, checkpoint, kind, {"most_yes": most})
        judged, counts = learner.judged(UpdateMaterial(accepted(), nearer), 1)
        used[most] = len(judged.refused["p0"])
        assert counts["refused_left_out.over_most_yes"] == 3 - used[most]
    assert used == {None: 3, 0: 1, 1: 2}


@pytest.mark.parametrize("kind", ["dpo", "kto"])
def test_unusable_refused_rows_are_named_and_counted(
    tmp_path: Path, checkpoint: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    same = accepted()[1].input_ids[3:]
    bad = [
        *refused(0, (50, STOP), (50, STOP), (51, 52), (), (*range(62), STOP)),
        *refused(1, same),
        *refused(2, (50, 51), stage="truncated"),
        *refused(3, *[(60 + i, STOP) for i in range(3)]),
    ]
    learner = updater(tmp_path, checkpoint, kind, {"refused_per_prompt": 2})
    judged, counts = learner.judged(UpdateMaterial(accepted(), bad), 1)
    assert [len(judged.refused[f"p{i}"]) for i in range(4)] == [1, 0, 0, 2]
    assert {key: count for key, count in counts.items() if "left_out" in key} == {
        "refused_left_out.repeated": 1,
        "refused_left_out.no_stop_token": 1,
        "refused_left_out.no_supervised_token": 1,
        "refused_left_out.over_length": 1,
        "refused_left_out.same_as_accepted": 1,
        "refused_left_out.truncated": 1,
        "refused_left_out.over_refused_per_prompt": 1,
    }
    assert "7 of 10 refused candidates are left out" in caplog.text
    asked = updater(tmp_path, checkpoint, kind, {"truncated": True})
    assert asked.judged(UpdateMaterial(accepted(), bad), 1)[1]["refused_used.truncated"] == 1


def test_pairs_are_of_one_prompt_and_this_round(tmp_path: Path, checkpoint: Path) -> None:
    dpo, kto = (updater(tmp_path, checkpoint, kind) for kind in ("dpo", "kto"))
    data = UpdateMaterial(
        [*accepted(2), *accepted(4, round=0)[3:]],
        [*refused(0, (50, STOP)), *refused(2, (51, STOP)), *refused(3, (52, STOP))],
    )
    judged, _ = dpo.judged(data, 1)
    assert [(one.prompt, one.completion, one.against) for one in dpo.examples(judged, Counter())] == [
        ((1, 10, 20), (30, STOP), (50, STOP))
    ]
    assert [one.label for one in kto.examples(judged, Counter())] == [True, True, False, False, False]


@pytest.mark.parametrize("kind", CLASSES)
def test_a_round_without_preferences_trains_like_sft(
    tmp_path: Path, checkpoint: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    result = updater(tmp_path, checkpoint, kind).learn(UpdateMaterial(rows()), round=1, parent=parent(tmp_path))
    assert result.metrics["preferences"] == 0 and result.rows == 12
    assert f"round 1 has no preference for {kind}" in caplog.text


def test_trl_does_not_load_vllm_where_it_is_installed() -> None:
    """Nothing is generated; the import takes seconds, and sets variables of the environment."""
    import trl.generation.vllm_generation

    from policies.training import grpo_run

    assert grpo_run.GRPOTrainer is not None
    assert not hasattr(trl.generation.vllm_generation, "LLM")


def test_groups_are_all_that_was_judged_of_a_prompt(tmp_path: Path, checkpoint: Path) -> None:
    sibling = TrainingRow((1, 10, 20, 60, STOP), 3, "sibling", "p0", 5, 1)
    bad = TrainingRow((1, 10, 20, 61), 3, "sibling", "p0", 6, 1)  # no stop token
    data = UpdateMaterial(
        accepted(2), [*refused(0, (50, STOP), (50, STOP), (51,)), *refused(3, (52, STOP))], [sibling, bad]
    )
    learner = updater(tmp_path, checkpoint, "grpo")
    judged, counts = learner.judged(data, 1)
    found = learner.examples(judged, counts)
    # Two of four were accepted: a deviation of 1/2 from the mean, over a standard deviation of 0.577.
    assert [(one.completion[0], one.label, round(one.advantage, 3)) for one in found] == [
        (30, True, 0.866),
        (60, True, 0.866),
        (50, False, -0.866),
        (50, False, -0.866),
    ]
    assert counts == {
        "refused_used.correctness": 3,
        "refused_left_out.no_stop_token": 1,
        "groups": 1,
        "groups_of_equal_reward": 2,
    }


def test_an_answer_is_pushed_until_its_ratio_is_clipped(tmp_path: Path, checkpoint: Path) -> None:
    """One constant rate: without clipping the advantage of an answer would move it without end."""
    run: dict[str, Any] = {"steps": 15, "schedule": "constant", "warmup": 0.0, "batch_size": 5, "learning_rate": 3e-3}
    moved = []
    for clip in (0.05, 0.9):
        folder = tmp_path / str(clip)
        learner = updater(folder, checkpoint, "grpo", {"sft_weight": 0.0, "clip": clip, "beta": 1e-6}, **run)
        metrics = learner.learn(material(), round=1, parent=parent(folder)).metrics
        row = material().rows[0]
        moved.append(log_probability(folder, 1, row) - log_probability(folder, 0, row))
        assert metrics["clipped"] > 0
    assert 0 < moved[0] < moved[1]


def test_kto_needs_two_rows_in_a_forward_pass(tmp_path: Path, checkpoint: Path) -> None:
    learner = updater(tmp_path, checkpoint, "kto", micro_batch_size=1)
    with pytest.raises(TrainingError, match=r"update\.micro_batch_size: kto needs at least 2 .* it is 1"):
        learner.learn(material(), round=1, parent=parent(tmp_path))


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"launch": {"processes": 2}}, "dpo trains in the job's own process"),
        ({"packing": True}, "packing: true cannot be used with update.algorithm.type: dpo"),
        ({"algorithm": {"type": "grpo"}, "start": "base"}, r"update\.start: previous \(it is base\)"),
    ],
)
def test_settings_that_cannot_be_combined_are_refused(keys: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        settings(**{"algorithm": {"type": "dpo"}, **keys})

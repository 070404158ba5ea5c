"""Exported training data: what is in it, what is not, and that TRL's trainers take the folders as they are."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from svd_loop.config.controls import RandomControl
from svd_loop.contracts import Problem
from svd_loop.errors import ConfigError, DataError
from svd_loop.experiments.controls import control_of
from svd_loop.jobs import run_job
from svd_loop.promotion import training_sets
from svd_loop.promotion.training_sets import SetKind, export_set
from tests.svd_loop.jobs_support import small

JOB = "scripted"
NANO = Path(__file__).parents[3] / "policies" / "nano"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A job whose judge sometimes writes no verdict."""
    root = tmp_path_factory.mktemp("exported")
    run_job(small(root, "engine.invalid=0.05", "cascade.invalid_retries=0"))
    return root


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]


def query(root: Path, sql: str) -> list[Any]:
    with closing(sqlite3.connect(root / "jobs" / JOB / "ledger.sqlite")) as connection:
        return connection.execute(sql).fetchall()


def test_sft_rows_are_exactly_the_accepted_rows(root: Path, tmp_path: Path) -> None:
    written = export_set(JOB, root, SetKind.SFT, tmp_path / "sft")
    rows = rows_of(tmp_path / "sft")
    keys = [(row["round"], row["prompt_id"], row["candidate"]) for row in rows]
    accepted = query(root, "SELECT round, prompt_id, candidate FROM accepted_rows ORDER BY 1, 2, 3")
    assert keys == accepted and written.rows == len(accepted) > 5
    first = rows[0]
    assert [turn["role"] for turn in first["messages"]] == ["user", "assistant"]
    assert "final answer alone" in first["messages"][0]["content"]  # the solver's instruction, as it was sampled
    assert (first["votes_yes"], first["votes_no"], first["stage"]) == (6, 0, "")
    assert first["version"] == "round-000" and len(first["fingerprint"]) == 64


def test_only_a_vote_of_no_makes_a_refused_label(root: Path, tmp_path: Path) -> None:
    written = export_set(JOB, root, SetKind.KTO, tmp_path / "kto")
    refused = {
        (row["round"], row["prompt_id"], row["candidate"]) for row in rows_of(tmp_path / "kto") if not row["label"]
    }
    deciding = """SELECT v.round, v.prompt_id, v.candidate
                  FROM verdicts v JOIN votes USING (round, prompt_id, candidate)
                  WHERE v.rejection = 'vote' AND votes.stage = v.stage AND votes.vote = v.vote AND value = '{}'"""
    assert refused == set(query(root, deciding.format("no")))
    assert written.left_out["undecided"] == len(query(root, deciding.format("invalid"))) > 0


def test_pairs_hold_an_accepted_and_a_refused_solution_of_one_prompt(root: Path, tmp_path: Path) -> None:
    export_set(JOB, root, SetKind.PREFERENCES, tmp_path / "pairs")
    rows = rows_of(tmp_path / "pairs")
    verdicts = {
        (round, prompt, candidate): accepted
        for round, prompt, candidate, accepted in query(
            root, "SELECT round, prompt_id, candidate, accepted FROM verdicts"
        )
    }
    assert rows
    for row in rows:
        assert verdicts[row["round"], row["prompt_id"], row["chosen_candidate"]] == 1
        assert verdicts[row["round"], row["prompt_id"], row["rejected_candidate"]] == 0
        assert row["rejected_stage"] and row["rejected_votes_no"] == 1 and row["chosen_votes_no"] == 0


def test_the_folder_loads_as_it_is_in_both_formats(root: Path, tmp_path: Path) -> None:
    from datasets import load_dataset

    loaded = []
    for suffix in ("jsonl", "parquet"):
        folder = tmp_path / suffix
        export_set(JOB, root, SetKind.KTO, folder, suffix=suffix)
        data = load_dataset(str(folder), split="train", cache_dir=str(tmp_path / "cache"))
        loaded.append(data.to_list())
        assert sorted(path.name for path in folder.iterdir()) == ["README.md", f"train.{suffix}"]
    assert loaded[0] == loaded[1] and len(loaded[0]) > 20
    card = (tmp_path / "jsonl" / "README.md").read_text()
    assert f"{len(loaded[0])} rows" in card and "undecided" in card and "KTOTrainer" in card


def test_nothing_is_overwritten_and_a_failure_leaves_nothing(root: Path, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "mine").touch()
    with pytest.raises(ConfigError, match="nothing is overwritten"):
        export_set(JOB, root, SetKind.SFT, tmp_path / "there")
    run_job(small(tmp_path, "engine.true_positive=0.0", "engine.false_positive=0.0", "health.canaries=0"))
    with pytest.raises(DataError, match="no round has trained"):
        export_set(JOB, tmp_path, SetKind.SFT, tmp_path / "empty")
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "jobs") == ["there"]


def test_a_text_that_holds_a_held_out_problem_is_left_out(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = export_set(JOB, root, SetKind.KTO, tmp_path / "whole")
    text = rows_of(tmp_path / "whole")[0]["completion"][0]["content"]
    # The scripted policy recites nothing, so one of its solutions is declared a held-out problem afterwards.
    monkeypatch.setattr(training_sets, "held_out", lambda config: {"development": [Problem("p", text, "math")]})
    less = export_set(JOB, root, SetKind.KTO, tmp_path / "less")
    assert less.left_out["held_out"] >= 1 and less.rows < whole.rows


def test_labels_of_a_control_are_refused(tmp_path: Path) -> None:
    config = small(tmp_path)
    run_job(config, control=control_of(RandomControl(type="random"), config))
    with pytest.raises(DataError, match="control"):
        export_set(JOB, tmp_path, SetKind.SFT, tmp_path / "out")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of some hundred weights, with the embedded model's tokenizer and chat template."""
    from transformers import AutoTokenizer, Qwen3Config, Qwen3ForCausalLM

    folder = tmp_path_factory.mktemp("tiny")
    tokenizer = AutoTokenizer.from_pretrained(NANO)
    shape = {"hidden_size": 16, "intermediate_size": 16, "head_dim": 16, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 1, "num_key_value_heads": 1}
    Qwen3ForCausalLM(Qwen3Config(vocab_size=len(tokenizer), **shape, **heads)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize(("kind", "name"), [(SetKind.SFT, "SFT"), (SetKind.PREFERENCES, "DPO"), (SetKind.KTO, "KTO")])
def test_trl_takes_the_folder_as_it_is(root: Path, tmp_path: Path, tiny: Path, kind: SetKind, name: str) -> None:
    import torch
    import trl
    from datasets import load_dataset

    export_set(JOB, root, kind, tmp_path / "data")
    data = load_dataset(str(tmp_path / "data"), split="train[:8]", cache_dir=str(tmp_path / "cache"))
    settings = getattr(trl, f"{name}Config")(
        str(tmp_path / "out"),
        max_steps=1,
        per_device_train_batch_size=4,
        learning_rate=0.1,
        report_to="none",
        save_strategy="no",
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
    )
    trainer = getattr(trl, f"{name}Trainer")(model=str(tiny), args=settings, train_dataset=data)
    before = trainer.model.lm_head.weight.detach().clone()
    assert trainer.train().global_step == 1
    assert not torch.equal(before, trainer.model.lm_head.weight)


def test_a_conversation_comes_out_as_it_went_in(tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.jsonl"
    sums = [f"What is {place} + {place}?" for place in range(10, 16)]
    turns = [{"role": "system", "content": "Be exact."}, {"role": "user", "content": "Hello"}]
    turns.append({"role": "assistant", "content": "Hello. What shall I add?"})
    rows = ({"prompt": [*turns, {"role": "user", "content": question}]} for question in sums)
    prompts.write_text("".join(json.dumps(row) + "\n" for row in rows))
    train = f"data.train={{type: files, domain: math, paths: [{prompts}]}}"
    sure = ("engine.true_positive=1.0", "engine.false_positive=0.0", "cascade.stages=[factuality, correctness]")
    run_job(small(tmp_path, train, "data.prompts_per_round=6", "job.rounds=1", *sure))
    export_set(JOB, tmp_path, SetKind.SFT, tmp_path / "sft")
    messages = [row["messages"] for row in rows_of(tmp_path / "sft")]
    assert messages and all(one[:3] == turns for one in messages)
    assert {one[3]["content"].partition("\n")[0] for one in messages} <= set(sums)

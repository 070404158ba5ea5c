"""The paper's recipes, value by value, against the source's table (docs/guides/paper.md)."""

from __future__ import annotations

from pathlib import Path

import pytest

from svd_loop.config import Config, load_config
from svd_loop.config.base import Section
from svd_loop.contracts import Role

PAPER = Path(__file__).parents[3] / "configs" / "paper"

ALL = {
    "job.rounds": 1,
    "model.max_context": 40960,
    "sampling.n": 8,
    "sampling.temperature": 0.8,
    "sampling.top_p": 0.95,
    "sampling.top_k": 0,
    "sampling.min_p": 0.0,
    "sampling.max_tokens": 32768,
    "sampling.thinking": True,
    "cascade.votes": 5,
    "cascade.rule": "unanimous",
    "cascade.selection": "first_valid",
    "cascade.order": "stage_major",
    "cascade.stage_names": ("cycle_consistency", "factuality", "correctness"),
    "cascade.static.thought": True,
    "cascade.static.boxed": ("math",),
    "cascade.judge.thinking": True,
    "cascade.judge.temperature": 0.6,
    "cascade.judge.top_p": 0.95,
    "cascade.judge.top_k": 0,
    "cascade.judge.max_tokens": 32768,
    "cascade.roles": {},
    "cascade.show_thought": False,
    "update.method": "full",
    "update.start": "base",
    "update.batch_size": 64,
    "update.schedule": "cosine",
    "update.minimum_rate": 0.1,
    "update.betas": (0.9, 0.999),
    "update.checkpoint_steps": 100,
    "update.replay.rounds": 0,
    "update.replay.anchor": "none",
}
BY_SIZE = {
    "0.6b": {"learning_rate": 3e-5, "weight_decay": 0.01, "max_grad_norm": 1.0, "steps": 2000},
    "4b": {"learning_rate": 2e-5, "weight_decay": 0.0, "max_grad_norm": 0.2},
    "8b": {"learning_rate": 5e-6, "weight_decay": 0.01, "max_grad_norm": 1.0},
}


def value(config: Config, key: str) -> object:
    found: object = config
    for name in key.split("."):
        assert isinstance(found, Section)
        found = getattr(found, name)
    return found


@pytest.mark.parametrize("size", BY_SIZE)
@pytest.mark.parametrize("domain", ["math", "science", "coding"])
def test_every_value_is_the_sources(size: str, domain: str) -> None:
    config = load_config(PAPER / f"qwen3-{size}.yaml", [f"data.domain={domain}"])
    wanted = ALL | {f"update.{key}": number for key, number in BY_SIZE[size].items()}
    assert {key: value(config, key) for key in wanted} == wanted
    assert 2000 <= (config.update.steps or 0) <= 4000 and 0.03 <= config.update.warmup <= 0.05
    assert config.job.name == f"paper-qwen3-{size}-{domain}"


@pytest.mark.parametrize("size", BY_SIZE)
def test_a_judge_has_room_for_its_thought_and_the_answer(size: str) -> None:
    config = load_config(PAPER / f"qwen3-{size}.yaml")
    assert config.sampling.max_answer is not None and Role.GRADER not in config.cascade.roles
    assert config.sampling.max_answer + config.cascade.judge.max_tokens < config.model.max_context
    assert config.update.max_length == config.model.max_context

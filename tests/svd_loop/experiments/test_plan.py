from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sweeps import CONFIGS, sweep_data, write_sweep

from svd_loop.config import load_config
from svd_loop.config.controls import GoldControl, RandomControl
from svd_loop.errors import ConfigError
from svd_loop.experiments.plan import Plan


def test_every_arm_is_played_with_every_seed_under_its_own_configuration(tmp_path: Path) -> None:
    plan = Plan.load(write_sweep(tmp_path))
    assert [item.name for item in plan.plays][:5] == ["svd-s1", "votes-s1", "gold-s1", "unverified-s1", "test-time-s1"]
    votes = next(item for item in plan.plays if item.name == "votes-s2")
    assert (votes.config.cascade.votes, votes.config.job.seed, votes.config.job.rounds) == (1, 2, 2)
    assert len({item.digest for item in plan.plays}) == len(plan.plays)


def test_an_arm_brings_the_arm_it_waits_for_and_quick_is_what_the_file_says(tmp_path: Path) -> None:
    path = write_sweep(tmp_path)
    assert Plan.load(path, arms=["unverified"]).arms == ("svd", "unverified")
    quick = Plan.load(path, quick=True)
    assert (quick.arms, quick.seeds) == (("svd", "unverified"), (1,))
    assert Plan.load(path, quick=True, seeds=[2]).seeds == (2,)


def test_an_arm_like_another_takes_over_its_keys(tmp_path: Path) -> None:
    arms = sweep_data(tmp_path)["arms"] | {"more": {"says": "more", "like": "votes", "set": {"sampling.n": 2}}}
    plan = Plan.load(write_sweep(tmp_path, arms=arms), arms=["more"], seeds=[1])
    assert (plan.plays[0].config.cascade.votes, plan.plays[0].config.sampling.n) == (1, 2)


def test_an_arm_may_play_seeds_of_its_own_and_seeds_asked_for_go_before_them(tmp_path: Path) -> None:
    arms = sweep_data(tmp_path)["arms"]
    arms["votes"]["seeds"] = [1, 2, 3]
    path = write_sweep(tmp_path, arms=arms)
    by_seed = {seed: [item.arm for item in Plan.load(path).plays if item.seed == seed] for seed in (1, 2, 3)}
    assert by_seed == {1: list(arms), 2: list(arms), 3: ["votes"]}
    assert {item.name for item in Plan.load(path, seeds=[2], arms=["svd", "votes"]).plays} == {"svd-s2", "votes-s2"}
    assert Plan.load(path, quick=True).seeds == (1,)


def test_only_a_guarded_arm_keeps_the_jobs_stop_rule_and_health_action(tmp_path: Path) -> None:
    arms = {"free": {"says": "free"}, "guarded": {"says": "guarded", "guarded": True}}
    plan = Plan.load(write_sweep(tmp_path, arms=arms, control=None, ceiling=None, claims=[], quick=None), seeds=[1])
    free, guarded = (item.config for item in plan.plays)
    job = load_config(CONFIGS / "scripted.yaml")
    assert (guarded.plateau, guarded.health.action) == (job.plateau, job.health.action)
    assert free.plateau.patience > free.job.rounds and free.health.action == "warn"
    assert not guarded.tracking.enabled and not free.tracking.enabled


def test_arms_that_differ_in_their_control_alone_have_different_identities(tmp_path: Path) -> None:
    arms = {
        "svd": {"says": "the method"},
        "gold": {"says": "gold", "control": {"type": "gold"}},
        "half": {"says": "chance", "control": {"type": "random", "rates": [0.5]}},
        "third": {"says": "less", "like": "half", "control": {"type": "random", "rates": [0.3]}},
        "same": {"says": "as half", "like": "half"},
    }
    plan = Plan.load(write_sweep(tmp_path, arms=arms, control=None, ceiling=None, claims=[], quick=None), seeds=[1])
    svd, *controls = plan.plays
    assert svd.control is None and [item.control for item in controls] == [
        GoldControl(),
        RandomControl(rates=(0.5,)),
        RandomControl(rates=(0.3,)),
        RandomControl(rates=(0.5,)),
    ]
    named_alike = [replace(item, config=svd.config) for item in plan.plays]
    assert len({item.digest for item in named_alike}) == 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"control": "nobody"}, "control: nobody is not one of svd, votes"),
        ({"claims": [{"claim": "c", "better": "svd", "than": "x"}]}, "claims.0.than: x is not one of"),
        ({"claims": [{"claim": "c", "better": "svd", "metric": "x"}]}, "claims.0.metric: x is not one of other"),
        ({"arms": {"a": {"says": "a", "like": "b"}, "b": {"says": "b", "like": "a"}}}, "in a cycle (like)"),
        ({"arms": {"a": {"says": "a", "set": {"cascade.vots": 3}}}}, "arms.a"),
        ({"arms": {"a": {"says": "a", "set": {"data.test": None}}}}, "data.test is missing"),
        (
            {"arms": {"a": {"says": "a"}, "b": {"says": "b", "accepts_as": "a", "seeds": [1, 9]}}},
            "arms.b.seeds: a, which it accepts as, does not play seed 9",
        ),
        (
            {"arms": {"a": {"says": "a", "control": {"type": "self_consistency"}, "set": {"sampling.block": 1}}}},
            "arms.a: control: self_consistency compares all candidates",
        ),
        (
            {"arms": {"a": {"says": "a"}, "b": {"says": "b", "accepts_as": "a", "control": {"type": "gold"}}}},
            "arms.b.control: gold contradicts accepts_as",
        ),
        (
            {"arms": {"a": {"says": "a", "kind": "test_time", "control": {"type": "gold"}}}},
            "arms.a.control: gold contradicts kind: test_time",
        ),
        ({"arms": {"a": {"says": "a", "set": {"cascade.mode": "gold"}}}}, "cascade.mode: 'gold': version 0.1.0"),
        ({"arm": {}}, "arm: unknown key; did you mean arms?"),
    ],
)
def test_a_mistake_is_reported_before_anything_is_played(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    alone = {} if "arms" not in changes else {"control": None, "ceiling": None, "claims": [], "quick": None}
    with pytest.raises(ConfigError, match="(?s)" + message.replace("(", r"\(").replace(")", r"\)")):
        Plan.load(write_sweep(tmp_path, **{**alone, **changes}))


def test_unknown_arms_and_a_missing_quick_form_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--arm nothing"):
        Plan.load(write_sweep(tmp_path), arms=["nothing"])
    with pytest.raises(ConfigError, match="--quick needs"):
        Plan.load(write_sweep(tmp_path, quick=None), quick=True)


def test_the_unverified_control_of_an_arm_whose_samples_agree_asks_for_no_agreement(tmp_path: Path) -> None:
    agreeing = {"cascade.stages": ["agreement"], "sampling.n": 4, "sampling.block": None}
    plan = Plan.load(write_sweep(tmp_path, set=agreeing), arms=["unverified"])
    stages = {item.arm: item.config.cascade.stage_names for item in plan.plays}
    assert stages["svd"] == ("agreement",) and "agreement" not in stages["unverified"]

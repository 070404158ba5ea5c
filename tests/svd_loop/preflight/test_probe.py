"""The probe against a round that is really played."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from svd_loop.assembly.backends import make_backend
from svd_loop.assembly.data import prompts_of
from svd_loop.assembly.job import make_cascade, template_set
from svd_loop.config import Config, load_config
from svd_loop.contracts import BUILT_IN_ROLES, BUILT_IN_STAGES, Asking, Domain, Prompt, Role
from svd_loop.preflight.probe import probe, with_speed
from svd_loop.preflight.work import Measured, forecast
from svd_loop.support.usage import MeteredPolicy
from tests.svd_loop.jobs_support import small

NANO = Path(__file__).parents[3] / "configs" / "nano.yaml"


def measure(config: Config, root: Path, prompts: list[Prompt], candidates: int) -> Measured:
    """A probe with its speed, on a base model of its own."""
    with closing(make_backend(config, root).open(0)) as policy:
        return with_speed(config, policy, probe(config, policy, prompts, candidates))


def played(config: Config, root: Path, prompts: list[Prompt]) -> dict[str, int]:
    """Candidates, judge calls and output tokens of a round."""
    import gymnasium

    import envs
    from envs.solving import SolverAgent

    assert envs.__name__
    templates = template_set(config)
    policy = MeteredPolicy(make_backend(config, root / "job").open(0))
    env = gymnasium.make(
        "SelfVerification-v0",
        disable_env_checker=True,
        cascade=make_cascade(config, templates),
        n=config.sampling.n,
        block=config.sampling.block,
    )
    _, info = env.reset(options={"prompts": prompts, "round": 1, "judge": policy})
    ended = False
    while not ended:
        asked = [prompts[place] for place in info["open"]]
        found = SolverAgent(templates).sample(policy, asked, info["indices"], round=1)
        _, _, ended, _, info = env.step(env.unwrapped.action(found))
    usage = policy.take_usage()
    policy.close()
    judge = [counts for role, counts in usage.items() if role != Role.SOLVER]
    return {
        "candidates": usage["solver"].calls,
        "judge_calls": sum(counts.calls for counts in judge),
        "output_tokens": sum(counts.output_tokens for counts in usage.values()),
    }


def test_a_round_lies_within_the_forecast_and_near_its_middle(tmp_path: Path) -> None:
    """On the embedded model: within the range, and within a factor of two of its value."""
    config = load_config(
        NANO,
        [
            f"job.root={tmp_path}",
            "sampling.n=4",
            "cascade.votes=2",
            "data.train.count=12",
            "engine.threads=1",
            "engine.batch_size=64",
        ],
    )
    prompts = list(prompts_of(config.data.train))
    measured = measure(config, tmp_path / "probe", prompts[::3], 12)
    assert measured.candidates == 12 and set(measured.roles) == set(BUILT_IN_ROLES)
    assert measured.prompt_rate is not None and measured.output_rate is not None and measured.rows == 64
    found = forecast(config, measured, prompts=len(prompts), held_out={})
    for name, truth in played(config, tmp_path, prompts).items():
        figure = found.round[name]
        assert figure.low <= truth <= figure.high, name
        assert truth / 2 < figure.value < truth * 2, name


def test_a_script_is_probed_without_speed(tmp_path: Path) -> None:
    config = small(tmp_path)
    prompts = list(prompts_of(config.data.train))[:3]
    measured = measure(config, tmp_path, prompts, 5)
    assert (measured.candidates, measured.complete) == (5, 5)
    assert measured.output_rate is None and "hours" not in forecast(config, measured, prompts=3, held_out={}).job
    assert all(votes == 5 for _, votes in measured.yes.values()) and set(measured.yes) == set(BUILT_IN_STAGES)


@pytest.mark.parametrize("asking", [asking for asking in Asking if asking is not Asking.DIRECT])
def test_a_scripted_round_lies_within_the_forecast_under_every_way_of_asking(tmp_path: Path, asking: Asking) -> None:
    options = (f"cascade.asking={asking}", "sampling.block=null", "engine.false_positive=0.5")
    config = small(tmp_path, *options, "data.train.count=30")
    prompts = list(prompts_of(config.data.train))
    measured = measure(config, tmp_path / "probe", prompts[::2], 30)
    found = forecast(config, measured, prompts=18, held_out={})
    for name, truth in played(config, tmp_path, prompts[:18]).items():
        assert found.round[name].low <= truth <= found.round[name].high, name


def test_a_round_with_agreement_lies_within_a_forecast_that_knows_how_many_agree(tmp_path: Path) -> None:
    stages = "cascade.stages=[{type: agreement, count: 2}, factuality]"
    config = small(tmp_path, stages, "sampling.block=null", "engine.false_positive=0.5", "data.train.count=40")
    prompts = [prompt for prompt in prompts_of(config.data.train) if prompt.domain == Domain.MATH]
    measured = measure(config, tmp_path / "probe", prompts[:20], 40)
    yes, votes = measured.yes["agreement"]
    assert votes == measured.complete == measured.candidates == 40 and 0 < yes < 40
    found = forecast(config, measured, prompts=18, held_out={})
    unknown = replace(measured, yes={**measured.yes, "agreement": (0, 0)})
    blind = forecast(config, unknown, prompts=18, held_out={})
    for name, truth in played(config, tmp_path, prompts[:18]).items():
        assert found.round[name].low <= truth <= found.round[name].high, name
    assert blind.round["judge_calls"].low == 0 < found.round["judge_calls"].low
    assert found.round["judge_calls"].high < blind.round["judge_calls"].high

"""Configuration: every shipped file parses, and every mistake is named with what to change."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from svd_loop.config import changed_keys, config_digest, load_config, parse_config
from svd_loop.errors import ConfigError
from svd_loop.experiments.plan import Plan

CONFIGS = Path(__file__).parents[3] / "configs"
NANO = CONFIGS / "nano.yaml"


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.name)
def test_every_shipped_file_parses(path: Path) -> None:
    load_config(path)


@pytest.mark.parametrize("path", sorted((CONFIGS / "experiments").glob("*.yaml")), ids=lambda path: path.name)
def test_every_shipped_sweep_parses_with_all_its_arms(path: Path) -> None:
    plan = Plan.load(path)
    assert {item.arm for item in plan.plays} == set(plan.section.arms)
    if plan.section.quick:
        assert Plan.load(path, quick=True).plays


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("cascade.vots=3", "cascade.vots: unknown key; did you mean votes?"),
        ("data.train.cuont=3", "did you mean count?"),
        ("colour=red", "unknown key; known keys here:"),
        ("sampling.n=0", "sampling.n: Input should be greater than or equal to 1 (found 0)"),
        ("evaluation.pass_at=[2]", "must contain 1"),
        ("evaluation.pass_at=[1, 64]", "needs at least as many evaluation.samples"),
        ("cascade.selection=all_valid", "contradicts cascade.selection: all_valid"),
        ("cascade.stages=[factuality, factuality]", "a stage is named twice"),
        ("health.length_band=[1.5, 2]", "must hold 1.0 between its ends"),
        ("cascade.roles={solver: {max_tokens: 3}}", "configured under `sampling`"),
        ("sampling.max_tokens=512", "leaves no room for a prompt"),
        ("engine.type=warp", "engine"),
        ("job.name=../x", "job.name"),
        ("job", "dotted.key=value"),
        ("job.name.deep=1", "job.name is a value, not a section"),
        ("sampling.n={", "not valid YAML"),
    ],
)
def test_a_mistake_names_the_key_and_the_way_out(override: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(NANO, [override])
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"- 1\n", "must be a mapping"),
        (b"a: [", "not valid YAML"),
        (b"\xff\xfe\x00", "cannot be read"),
        (b"{}", "model: is required"),
    ],
)
def test_a_broken_file_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "broken.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert message in str(caught.value)
    assert "broken.yaml" in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such configuration file"):
        load_config(tmp_path / "absent.yaml")


def test_overrides_are_yaml_and_reach_deep() -> None:
    config = load_config(NANO, ["job.seed=7", "cascade.stages=[correctness]", "data.test=null"])
    assert (config.job.seed, list(config.cascade.stage_names), config.data.test) == (
        7,
        ["correctness"],
        None,
    )


def test_digest_and_changed_keys_tell_what_differs() -> None:
    one, other = load_config(NANO), load_config(NANO, ["job.seed=1", "cascade.votes=4"])
    assert config_digest(one) == config_digest(load_config(NANO))
    assert config_digest(one) != config_digest(other)
    changes = changed_keys(one.model_dump(mode="json"), other.model_dump(mode="json"))
    assert changes == [f"cascade.votes: {one.cascade.votes} -> 4", "job.seed: 0 -> 1"]


trees = st.recursive(
    st.integers(),
    lambda inner: st.dictionaries(st.text("abc", min_size=1, max_size=2), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text("abc", min_size=1, max_size=2), trees, max_size=4))
def test_nothing_differs_from_itself(tree: dict[str, object]) -> None:
    assert changed_keys(tree, tree) == []


def test_on_is_a_key_and_not_a_truth_value(tmp_path: Path) -> None:
    path = tmp_path / "hooks.yaml"
    hooks = "schedule: {hooks: [{on: [success], command: [echo]}]}"
    path.write_text(f"{NANO.read_text()}\n{hooks}\n")
    assert load_config(path).schedule.hooks[0].on == ("success",)


@pytest.mark.parametrize(("word", "value"), [("true", True), ("off", False), ("yes", True)])
def test_words_of_truth_still_mean_what_they_say(word: str, value: bool) -> None:
    assert load_config(NANO, [f"cascade.early_exit={word}"]).cascade.early_exit is value


@pytest.mark.parametrize("size", ["0.6b", "4b", "8b"])
def test_one_override_makes_another_domains_job(size: str) -> None:
    path = CONFIGS / f"qwen3-{size}.yaml"
    math = load_config(path)
    assert (math.job.name, math.data.train.domain) == (f"qwen3-{size}-math", "math")
    coding = load_config(path, ["data.domain=coding"])
    assert coding.job.name == f"qwen3-{size}-coding"
    sources = {name: getattr(coding.data, name) for name in ("train", "development", "test")}
    assert {source.domain for source in sources.values()} == {"coding"}
    assert sources["test"].paths == ("data/coding/test.jsonl",)
    again = parse_config(coding.model_dump(mode="json"))
    assert config_digest(again) == config_digest(coding)
    assert load_config(path, ["data.domain=science", "job.name=mine"]).job.name == "mine"


def test_a_domain_that_is_asked_for_and_not_given_is_named() -> None:
    with pytest.raises(ConfigError, match=r"data\.domain: 'data/\{domain\}/prompts\.jsonl' asks for it; set"):
        load_config(CONFIGS / "qwen3-4b.yaml", ["data.domain=null"])


def test_a_source_keeps_the_domain_it_names() -> None:
    config = load_config(CONFIGS / "qwen3-4b.yaml", ["data.test.domain=science"])
    assert (config.data.train.domain, config.data.test.domain) == ("math", "science")


@pytest.mark.parametrize("rule", ["most", "{at_least: 0}", "{at_least: two}", "{atleast: 2}", "[majority]", "3"])
def test_a_wrong_rule_is_one_message_that_names_the_key_and_the_choices(rule: str) -> None:
    with pytest.raises(ConfigError) as refused:
        load_config(NANO, [f"cascade.rule={rule}"])
    [_, problem] = str(refused.value).splitlines()
    assert problem.strip().startswith("cascade.rule: unanimous, majority, or {at_least: k}")


def test_choices_are_named_as_they_are_written() -> None:
    with pytest.raises(ConfigError, match="Input should be 'first_valid' or 'all_valid'"):
        load_config(NANO, ["cascade.selection=best"])


@pytest.mark.parametrize("name", ["007", "true", "1.5"])
def test_a_name_from_the_command_line_is_taken_as_it_is(name: str) -> None:
    assert load_config(NANO, name=name).job.name == name


@pytest.mark.parametrize("name", ["a/b", "a@b", "a:b", "it's", 'say "a"', "", " a"])
@pytest.mark.parametrize("key", ["tracking.register_as", "schedule.model"])
def test_a_model_is_called_what_references_and_searches_can_tell(key: str, name: str) -> None:
    with pytest.raises(ConfigError, match=key):
        load_config(CONFIGS / "scripted.yaml", [f"{key}={json.dumps(name)}"])

from __future__ import annotations

from typing import Any

import pytest

from svd_loop.config import config_digest, load_config, parse_config
from svd_loop.config.removed import REMOVED, without_removed
from svd_loop.errors import ConfigError
from tests.svd_loop.jobs_support import SCRIPTED


def nested(key: str, value: object) -> dict[str, Any]:
    data: Any = value
    for part in reversed(key.split(".")):
        data = {part: data}
    return dict(data)


@pytest.mark.parametrize("key", [key for key, option in REMOVED.items() if not option.values])
def test_an_option_that_is_switched_off_is_as_good_as_left_out(key: str) -> None:
    plain = load_config(SCRIPTED).model_dump(mode="json")
    section, _, name = key.rpartition(".")
    old = {**plain, section: {**plain[section], name: REMOVED[key].off}} if section else {**plain, name: False}
    assert config_digest(parse_config(old)) == config_digest(parse_config(plain))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("sampling.revise", True),
        ("sampling.budget_tokens", 4000),
        ("cascade.prefilter", {"stage": "correctness", "threshold": 0.0}),
        ("cascade.wordings", 3),
        ("cascade.judge_duplicates_once", True),
        ("cascade.order", "vote_major"),
        ("cascade.mode", "gold"),
        ("cascade.random_accept", [0.5]),
    ],
)
def test_an_option_in_use_is_named_with_the_version_that_had_it(key: str, value: object) -> None:
    with pytest.raises(ConfigError, match=rf"^here uses what .*\n  {key}: .*: version 0\.1\.0 was the last with this"):
        without_removed(nested(key, value), "here")


def test_all_of_them_are_listed_and_what_is_not_a_section_is_left_alone() -> None:
    with pytest.raises(ConfigError) as caught:
        without_removed({"sampling": {"revise": True}, "cascade": {"wordings": 2, "order": "measured"}}, "here")
    assert len(str(caught.value).splitlines()) == 3
    assert without_removed({"sampling": 3, "cascade": {"order": "measured"}}, "here") == {
        "sampling": 3,
        "cascade": {"order": "measured"},
    }

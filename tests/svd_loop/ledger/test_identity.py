from __future__ import annotations

from pathlib import Path

import pytest

from svd_loop.config import Config
from svd_loop.errors import JobConflictError
from svd_loop.ledger.identity import refuse_changes, refuse_incomparable
from tests.svd_loop.ledger import samples

FOLDER = Path("jobs/sample")


def with_change(section: str, key: str, value: object) -> Config:
    data = samples.config().model_dump(mode="json")
    data[section][key] = value
    return Config.model_validate(data)


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("job", "rounds", 99),
        ("job", "hours", 1.5),
        ("job", "tokens", 5),
        ("job", "root", "elsewhere"),
        ("tracking", "enabled", False),
        ("tracking", "uri", "sqlite:///other.db"),
    ],
)
def test_what_decides_no_result_may_change(section: str, key: str, value: object) -> None:
    refuse_changes(FOLDER, samples.config().model_dump(mode="json"), with_change(section, key, value))


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [("job", "seed", 1), ("engine", "chunk_size", 7), ("plateau", "patience", 9), ("update", "epochs", 1.0)],
)
def test_everything_else_may_not(section: str, key: str, value: object) -> None:
    with pytest.raises(JobConflictError, match=rf"{section}\.{key}: .* -> "):
        refuse_changes(FOLDER, samples.config().model_dump(mode="json"), with_change(section, key, value))


def test_a_key_that_a_newer_program_added_is_no_change() -> None:
    old = samples.config().model_dump(mode="json")
    del old["plateau"]["patience"]
    refuse_changes(FOLDER, old, samples.config())


def test_a_key_that_a_newer_program_dropped_is_one() -> None:
    old = samples.config().model_dump(mode="json") | {"dropped": 1}
    with pytest.raises(JobConflictError, match="dropped: 1 -> None"):
        refuse_changes(FOLDER, old, samples.config())


def test_a_fork_may_change_training_but_not_measuring() -> None:
    old = samples.config().model_dump(mode="json")
    refuse_incomparable(FOLDER, old, with_change("update", "epochs", 1.0))
    with pytest.raises(JobConflictError, match=r"evaluation\.samples: 4 -> 9"):
        refuse_incomparable(FOLDER, old, with_change("evaluation", "samples", 9))

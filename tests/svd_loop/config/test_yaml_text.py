"""Whatever stands in a configuration file, the answer is data or one clear error, soon."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from svd_loop.config import load_config
from svd_loop.config.yaml_text import MAX_BYTES, parse_yaml, read_yaml
from svd_loop.errors import ConfigError

SCRIPTED = Path(__file__).parents[3] / "configs" / "scripted.yaml"
BOMB = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{chr(98 + n)}: &{chr(98 + n)} [{','.join([f'*{chr(97 + n)}'] * 10)}]\n" for n in range(12)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("n: " + "9" * 5000, "a value cannot be read"),
        ("[" * 3000 + "]" * 3000, "nested deeper than 50 levels"),
        ("{a: " * 3000 + "}" * 3000, "nested deeper than 50 levels"),
        (BOMB, "stands for more than 100,000 values"),
        ("a: &a [*a]", "line 1 refers to itself"),
        ("a: &a {b: *a}", "line 1 refers to itself"),
        ("job: {seed: 1}\ndata: 2\njob: {seed: 3}", "line 3 gives 'job' again, first in line 1"),
        ("job: {seed: 1, seed: 1}", "line 1 gives 'seed' again"),
        ("a: !!python/object:os.system x", "not valid YAML"),
        ("a: \0", "not valid YAML"),
        ("a: b\n---\nc: d", "not valid YAML"),
        ("a: *nowhere", "not valid YAML"),
    ],
)
def test_hostile_text_is_one_error(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=r"^f\.yaml: ") as found:
        parse_yaml(text, "f.yaml")
    assert message in str(found.value) and len(str(found.value)) < 1000


def test_ordinary_text_is_read_as_yaml_1_2_does() -> None:
    text = "on: yes\nday: 2024-13-45\nbase: &b {x: 1}\nmore: {<<: *b, y: [*b, *b]}\nflag: true\nempty:"
    assert parse_yaml(text, "f") == {
        "on": "yes",
        "day": "2024-13-45",
        "base": {"x": 1},
        "more": {"x": 1, "y": [{"x": 1}, {"x": 1}]},
        "flag": True,
        "empty": None,
    }
    assert parse_yaml("", "f") is None


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    for name, content in {"big": b"#" * (MAX_BYTES + 1), "latin": b"a: \xff", "list": b"- a"}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ConfigError, match=name):
            read_yaml(tmp_path / name)
    for path in (tmp_path, tmp_path / "none", Path("/dev/zero")):
        with pytest.raises(ConfigError, match=str(path)):
            read_yaml(path)


@given(st.text(st.sampled_from("a:-[]{}&*!<>|\n \"'#,?0.~\t%@"), max_size=60) | st.text(max_size=60))
def test_any_text_is_data_or_an_error(text: str) -> None:
    try:
        parse_yaml(text, "f")
    except ConfigError as error:
        assert str(error).startswith("f: ")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("sampling.n=true", "sampling.n: .* \\(found 'true'\\)"),
        ("job.hours=true", "job.hours: .* \\(found 'true'\\)"),
        ("evaluation.pass_at=[1, true]", "evaluation.pass_at.1: "),
        ("sampling.temperature=.inf", "sampling.temperature: "),
        ("job.hours=.nan", "job.hours: "),
        ("job.seed=-5", "job.seed: .*greater than or equal to 0"),
        ("sampling.n=" + "9" * 5000, "-o sampling.n=9+\\.\\.\\.: a value cannot be read"),
        ("job.name=" + "x" * 5000, r"found 'x+\.\.\.\)"),
    ],
)
def test_values_that_are_no_numbers_name_their_key(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as found:
        load_config(SCRIPTED, [override])
    assert len(str(found.value)) < 1500

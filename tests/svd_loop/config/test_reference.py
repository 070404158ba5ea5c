"""The generated reference and JSON schemas are up to date, complete, and agree with the shipped files."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from svd_loop.config.reference import generated_files, job_schema, sweep_schema
from svd_loop.config.yaml_text import read_yaml  # as editors read it: `on` is a word

ROOT = Path(__file__).parents[3]
FILES = sorted((ROOT / "configs").glob("*.yaml")) + sorted((ROOT / "configs" / "experiments").glob("*.yaml"))


@pytest.mark.parametrize("path", generated_files(), ids=str)
def test_the_generated_file_is_up_to_date(path: Path) -> None:
    written = (ROOT / path).read_text(encoding="utf-8")
    assert written == generated_files()[path], f"{path}: run `make reference` and commit what it writes"


def leaves(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, model in {"": schema, **schema["$defs"]}.items():
        for key, node in model.get("properties", {}).items():
            yield f"{name}.{key}", node


@pytest.mark.parametrize("schema", [job_schema(), sweep_schema()], ids=["job", "sweep"])
def test_every_key_says_what_it_means(schema: dict[str, Any]) -> None:
    silent = [
        name
        for name, node in leaves(schema)
        if not node.get("description") and "const" not in node and "$ref" not in node
    ]
    assert silent == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_shipped_file_names_its_schema_and_keeps_it(path: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema")  # comes with vLLM
    named = re.match(r"# yaml-language-server: \$schema=(\S+)\n", path.read_text())
    assert named, f"{path}: the first line names no schema"
    schema = json.loads((path.parent / named[1]).read_text())
    jsonschema.validate(read_yaml(path), schema)


def test_the_schema_refuses_what_the_loader_refuses() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    data = read_yaml(ROOT / "configs" / "nano.yaml")
    data["sampling"]["m"] = 1
    with pytest.raises(jsonschema.ValidationError, match="'m' was unexpected"):
        jsonschema.validate(data, job_schema())

"""No checkpoint may bring code: every load through a class that would run it says so."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from policies.text.chat import ChatCodec
from policies.versions.checkpoints import load_checkpoint
from svd_loop.errors import ModelError

ROOT = Path(__file__).parents[1]
PACKAGES = ("svd_loop", "envs", "policies", "benchmarks")
CODE = "import pathlib\npathlib.Path(__file__).with_name('ran').touch()\n"


def unguarded(source: str) -> Iterator[int]:
    """Lines of `Auto….from_pretrained` calls without `trust_remote_code=False`."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        owner = node.func.value
        name = owner.id if isinstance(owner, ast.Name) else owner.attr if isinstance(owner, ast.Attribute) else ""
        if node.func.attr != "from_pretrained" or not name.startswith("Auto"):
            continue
        said = {word.arg: word.value for word in node.keywords}.get("trust_remote_code")
        if not (isinstance(said, ast.Constant) and said.value is False):
            yield node.lineno


def test_every_load_refuses_code() -> None:
    offenders = [
        f"{path.relative_to(ROOT)}:{line}"
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        for line in unguarded(path.read_text("utf-8"))
    ]
    assert offenders == []


def test_the_check_sees_a_load_that_does_not() -> None:
    assert list(unguarded("AutoModel.from_pretrained('x')\nt.AutoTokenizer.from_pretrained(p, use_fast=True)")) == [
        1,
        2,
    ]
    assert list(unguarded("AutoModel.from_pretrained('x', trust_remote_code=False)\nQwen.from_pretrained(p)")) == []


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
def test_a_checkpoint_with_code_is_an_error_and_the_code_never_runs(tmp_path: Path, file: str) -> None:
    (tmp_path / "theirs.py").write_text(CODE)
    auto = {"AutoConfig": "theirs.C", "AutoModelForCausalLM": "theirs.M", "AutoTokenizer": ["theirs.T", None]}
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / file).write_text(json.dumps({"model_type": "theirs", "auto_map": auto}))
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_checkpoint(tmp_path, "float32")
    with pytest.raises(ModelError, match="cannot be loaded"):
        ChatCodec.load(tmp_path)
    assert not (tmp_path / "ran").exists()

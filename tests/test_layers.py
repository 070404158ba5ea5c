"""Imports point down only: the architecture of docs/architecture.md, enforced."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("svd_loop", "envs", "policies")

# A module may import its own layer's packages listed here and every layer with a smaller number.
LAYERS: dict[str, int] = {
    "svd_loop": 0,  # the package's __init__: a version string
    "svd_loop.contracts": 0,
    "svd_loop.errors": 0,
    "svd_loop.progress": 0,
    "svd_loop.allocator": 0,
    "svd_loop.config": 1,
    "svd_loop.statistics": 1,
    "svd_loop.replay": 2,
    "svd_loop.plateau": 2,
    "svd_loop.registry.gate": 2,
    "svd_loop.budget": 2,
    "svd_loop.metering": 2,
    "svd_loop.health": 2,
    "envs": 3,
    "policies": 3,
    "svd_loop.nano": 4,
    "svd_loop.evaluation": 4,
    "svd_loop.firewall": 4,
    "svd_loop.answers_file": 4,
    "svd_loop.labelled": 5,
    "svd_loop.ledger": 4,
    "svd_loop.registry": 4,
    "svd_loop.registry.turns": 4,
    "svd_loop.report": 4,
    "svd_loop.tracking": 5,
    "svd_loop.controller": 3,
    "svd_loop.parts": 3,
    "svd_loop.anchors": 5,
    "svd_loop.audit": 5,
    "svd_loop.measured_order": 5,
    "svd_loop.judge_watch": 5,
    "svd_loop.build": 6,
    "svd_loop.forecast": 6,
    "svd_loop.jobs": 7,
    "svd_loop.thresholds": 7,
    "svd_loop.registry.models": 7,
    "svd_loop.registry.history": 7,
    "svd_loop.registry.registering": 7,
    "svd_loop.registry.examination": 7,
    "svd_loop.registry.promotion": 7,
    "svd_loop.registry.lineage": 7,
    "svd_loop.preflight": 7,
    "svd_loop.schedule": 8,
    "svd_loop.sweep": 8,
    "svd_loop.cli": 9,
}
SIBLINGS = {
    ("envs", "policies"),
    ("policies", "envs"),
    ("svd_loop.controller", "envs"),
    ("svd_loop.controller", "policies"),
    ("svd_loop.parts", "envs"),
    ("svd_loop.parts", "policies"),
}


def layer(module: str) -> str:
    """The longest known prefix of a module name."""
    parts = module.split(".")
    for length in range(len(parts), 0, -1):
        name = ".".join(parts[:length])
        if name in LAYERS and (name != "svd_loop" or length == len(parts)):
            return name
    raise AssertionError(f"{module} belongs to no layer: add it to LAYERS")


def imports_of(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= {m if (ROOT / (m.replace(".", "/") + ".py")).exists() or (ROOT / m.replace(".", "/")).is_dir()
                      else node.module for m in modules}  # fmt: skip
    return {name for name in names if name.split(".")[0] in PACKAGES}


def modules() -> list[Path]:
    return sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down(path: Path) -> None:
    relative = path.relative_to(ROOT).with_suffix("")
    name = ".".join(relative.parts).removesuffix(".__init__")
    own = layer(name)
    for imported in imports_of(path):
        other = layer(imported)
        if own == other:
            continue
        assert (own, other) not in SIBLINGS, f"{name} imports its sibling {imported}"
        assert LAYERS[other] <= LAYERS[own], f"{name} (layer {own}) imports {imported} (layer {other}) above it"


@pytest.mark.parametrize("module", ["svd_loop.contracts", "svd_loop.errors"])
def test_the_foundation_is_standard_library_only(module: str) -> None:
    program = f"import sys, {module}; print([m for m in ('pydantic', 'numpy', 'torch') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_the_command_line_starts_without_the_heavy_libraries() -> None:
    heavy = ("torch", "transformers", "trl", "peft", "mlflow", "gymnasium", "datasets", "scipy", "matplotlib")
    program = f"import sys, svd_loop.cli; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "[]\n"

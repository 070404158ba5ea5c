"""Imports point down only: the architecture of docs/concepts/architecture.md, enforced."""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("svd_loop", "envs", "policies")

# From the bottom up. A package may import every package of a line above its own here, and none beside it.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("svd_loop.contracts", "svd_loop.errors"),
    ("svd_loop.support",),
    ("svd_loop.config",),
    ("svd_loop.loop", "envs", "policies"),  # the loop, the world and the agent never import each other
    ("svd_loop.nano", "svd_loop.ledger", "svd_loop.evaluation"),
    ("svd_loop.judge_health", "svd_loop.report"),
    ("svd_loop.mlflow_store",),
    ("svd_loop.assembly",),
    ("svd_loop.promotion", "svd_loop.preflight"),
    ("svd_loop.viewer",),
    ("svd_loop.jobs",),
    ("svd_loop.schedule", "svd_loop.experiments"),
    ("svd_loop",),  # the package's __init__: the public face, from which nothing below imports
    ("svd_loop.cli",),
)
HEIGHT = {package: height for height, packages in enumerate(LAYERS) for package in packages}


def package_of(module: str) -> str:
    """The row of the table that a module belongs to."""
    parts = module.split(".")
    name = parts[0] if parts[0] != "svd_loop" else ".".join(parts[:2])
    assert name in HEIGHT, f"{module} belongs to no layer: add {name} to LAYERS"
    return name


def imports_of(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= {
                m
                if (ROOT / (m.replace(".", "/") + ".py")).exists() or (ROOT / m.replace(".", "/")).is_dir()
                else node.module
                for m in modules
            }
    return {name for name in names if name.split(".")[0] in PACKAGES}


def modules() -> list[Path]:
    return sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down(path: Path) -> None:
    name = name_of(path)
    own = package_of(name)
    for imported in imports_of(path):
        other = package_of(imported)
        if own != other:
            assert HEIGHT[other] < HEIGHT[own], f"{name} imports {imported}, which lies beside it or above it"


def test_no_folder_imports_in_a_circle() -> None:
    folders: dict[str, set[str]] = {}
    for path in modules():
        own = path.parent.relative_to(ROOT)
        targets = {Path(*name.split(".")) for name in imports_of(path)}
        used = {target if (ROOT / target).is_dir() else target.parent for target in targets}
        if own != Path("svd_loop"):  # jobs and errors are modules of their own, and have their rows in the table
            outside = {str(folder) for folder in used if folder not in (own, Path("svd_loop"))}
            folders.setdefault(str(own), set()).update(outside)
    assert tuple(graphlib.TopologicalSorter(folders).static_order())


def test_the_table_stays_short() -> None:
    assert len(HEIGHT) <= 22
    markers = ("__pycache__", "py.typed")
    entries = [path for path in (ROOT / "svd_loop").iterdir() if path.name not in markers]
    assert len(entries) <= 20


def test_the_page_on_architecture_shows_these_layers() -> None:
    page = (ROOT / "docs" / "concepts" / "architecture.md").read_text()
    lines = page.partition("```\n")[2].partition("```")[0].strip().split("\n")
    assert [set(line.partition("   ")[0].split()) for line in lines] == [set(layer) for layer in reversed(LAYERS)]


@pytest.mark.parametrize("module", ["svd_loop.contracts", "svd_loop.errors"])
def test_the_foundation_is_standard_library_only(module: str) -> None:
    program = f"import sys, {module}; print([m for m in ('pydantic', 'numpy', 'torch') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_the_command_line_starts_without_the_heavy_libraries() -> None:
    heavy = ("torch", "transformers", "trl", "peft", "mlflow", "gymnasium", "datasets", "scipy", "matplotlib")
    program = f"import sys, svd_loop.cli; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "[]\n"

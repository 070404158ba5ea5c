"""What the documentation points to exists: pages, anchors, commands, options and configuration keys."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from svd_loop.cli.app import app
from svd_loop.config import parse_config
from svd_loop.config.reference import job_schema

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "policies" / "nano" / "README.md"])
HISTORY = (ROOT / "docs" / "results", ROOT / "docs" / "results.md", ROOT / "CHANGELOG.md")
CURRENT = [page for page in PAGES if not any(page.is_relative_to(path) for path in HISTORY)]
PYTHON = (ROOT / "docs" / "reference" / "python.md").read_text()
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^ *```.*?^ *```", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`([^`\n]+)`")
NOT_KEYS = re.compile(r"health\.(alarms|agreement)|schedule\.sqlite|dotted\.key|section\.key")
"""Names of metrics and files, and placeholders, that look like keys of the configuration."""


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def anchors_of(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_leads_somewhere(page: Path) -> None:
    broken = []
    for target in LINK.findall(CODE.sub("", FENCE.sub("", page.read_text()))):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        found = page if not path else (page.parent / path).resolve()
        if not found.exists() or (anchor and anchor not in anchors_of(found)):
            broken.append(target)
    assert broken == []


def test_every_page_is_reached_from_the_index() -> None:
    index = ROOT / "docs" / "index.md"
    reached, waiting = set(), [index]
    while waiting:
        page = waiting.pop()
        if page not in reached:
            reached.add(page)
            targets = [target.partition("#")[0] for target in LINK.findall(page.read_text()) if "://" not in target]
            waiting += [p for t in targets if t.endswith(".md") and (p := (page.parent / t).resolve()).exists()]
    assert [name_of(page) for page in PAGES if page.is_relative_to(ROOT / "docs") and page not in reached] == []


def test_pages_named_in_sources_exist() -> None:
    pattern = r"docs/[a-z/-]*\.md"
    where = ["*.py", "*.yaml", "Makefile"]
    found = subprocess.run(["git", "grep", "-ohE", pattern, "--", *where], cwd=ROOT, capture_output=True, text=True)
    assert [path for path in sorted(set(found.stdout.split())) if not (ROOT / path).exists()] == []


def code_lines(page: Path) -> Iterator[str]:
    """Lines of code of a page: in fences, indented, and inline."""
    text = page.read_text().replace("\\\n", " ").replace("\\|", "|")
    for block in FENCE.findall(text):
        yield from block.split("\n")[1:-1]
    rest = FENCE.sub("", text)
    yield from (
        line for line in rest.split("\n") if line.startswith("    ") and not line.lstrip().startswith(("|", "-"))
    )
    yield from CODE.findall(rest)


def commands(page: Path) -> Iterator[list[str]]:
    """Words behind `svd-loop` in a page's code, up to a comment, a pipe or a closing bracket."""
    for line in code_lines(page):
        for call in re.findall(r"svd-loop ((?!\.|COMMAND)[^#\n)\"]+)", line.replace("`", " ")):
            try:
                yield shlex.split(call)
            except ValueError:
                yield call.split()


def misfit(words: list[str]) -> str | None:
    """The parts of a command line that do not exist: a command, or an option."""
    command: Any = typer.main.get_command(app)
    while words and hasattr(command, "commands"):
        if words[0].startswith("-"):
            break
        alternatives = words.pop(0).split("|")
        if unknown := [name for name in alternatives if name not in command.commands]:
            return unknown[0]
        command = command.commands[alternatives[0]]
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    options = [re.split(r"[=\s]", word.strip("[]"))[0] for word in words if re.match(r"\[?-{1,2}[a-z]", word)]
    return next((option for option in options if option not in known | {"--help"}), None)


@pytest.mark.parametrize("page", CURRENT, ids=name_of)
def test_every_command_exists(page: Path) -> None:
    assert [(words, found) for words in commands(page) if (found := misfit(list(words)))] == []


def test_every_command_is_listed() -> None:
    page = (ROOT / "docs" / "reference" / "commands.md").read_text()
    group: Any = typer.main.get_group(app)
    names = [
        f"{name} {inner}".strip()
        for name, command in group.commands.items()
        for inner in getattr(command, "commands", {"": None})
    ]
    assert [name for name in names if f"`svd-loop {name}" not in page] == []


@pytest.mark.parametrize("page", CURRENT, ids=name_of)
def test_every_import_of_an_example_exists(page: Path) -> None:
    for block in re.findall(r"^```python\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom):
                module = importlib.import_module(str(node.module))
                assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == []
            elif isinstance(node, ast.Import):
                for alias in node.names:
                    importlib.import_module(alias.name)


@pytest.mark.parametrize("name", sorted(set(re.findall(r"^\| `(svd_loop\.[\w.]+)\(", PYTHON, re.MULTILINE))))
def test_every_function_of_the_python_page_exists(name: str) -> None:
    assert callable(pkgutil.resolve_name(name))


def is_key(dotted: str) -> bool:
    """Whether a dotted path is a section or key of the configuration, in any variant of a section."""
    schema = job_schema()
    nodes: list[dict[str, Any]] = [schema]
    for part in dotted.split("."):
        objects = [found for node in nodes for found in resolved(schema, node)]
        nodes = [node["properties"][part] for node in objects if part in node.get("properties", {})] + [
            node["additionalProperties"] for node in objects if isinstance(node.get("additionalProperties"), dict)
        ]
    return bool(nodes)


def resolved(schema: dict[str, Any], node: dict[str, Any]) -> list[dict[str, Any]]:
    if "$ref" in node:
        return [schema["$defs"][node["$ref"].rpartition("/")[2]]]
    choices = [*node.get("anyOf", ()), *node.get("oneOf", ())]
    return [found for choice in choices for found in resolved(schema, choice)] or [node]


@pytest.mark.parametrize("page", CURRENT, ids=name_of)
def test_every_configuration_key_exists(page: Path) -> None:
    sections = "|".join(job_schema()["properties"])
    overrides = re.findall(r"-o ['\"]?([a-z_.]+)=", page.read_text())
    named = [
        found[1]
        for code in CODE.findall(page.read_text())
        if (found := re.match(rf"((?:{sections})(?:\.[a-z_]+)+)(?![\w(/])", code))
    ]
    keys = {key for key in (*overrides, *named) if not NOT_KEYS.match(key)}
    assert [key for key in sorted(keys) if not is_key(key)] == []


def test_the_configuration_of_the_tutorial_is_valid() -> None:
    page = (ROOT / "docs" / "tutorial.md").read_text()
    (block,) = re.findall(r"^```yaml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert parse_config(yaml.safe_load(block)).job.name == "mine"


def test_the_checks_can_fail() -> None:
    assert misfit(["run", "configs/nano.yaml", "--wrong"]) == "--wrong"
    assert misfit(["models", "delete"]) == "delete"
    assert not is_key("sampling.m")
    assert is_key("cascade.roles.grader.top_p")

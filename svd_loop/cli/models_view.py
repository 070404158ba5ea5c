"""Tables of `svd-loop models`, at the width they need, since the logs of schedulers are narrow."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from svd_loop.cli.output import stderr

if TYPE_CHECKING:
    from svd_loop.mlflow_store.records import RegisteredVersion

_HIDDEN = ("svd_loop.files", "svd_loop.base_files", "svd_loop.gate.findings")
"""Long tags that only programs read; `--json` prints them."""


def say(*lines: str) -> None:
    """Print lines as they are, without reading brackets as markup."""
    for line in lines:
        stderr().print(line, markup=False, highlight=False)


def print_versions(versions: Iterable[RegisteredVersion]) -> None:
    """Print a table with one row a version."""
    from rich.table import Table

    from svd_loop.report.tables import print_whole

    table = Table()
    for heading in ("model", "version", "aliases", "job", "round", "development", "test", "gate"):
        table.add_column(heading)
    for version in versions:
        table.add_row(*_row(version))
    print_whole(stderr(), table)


def print_version(
    version: RegisteredVersion, data: Sequence[Mapping[str, Any]], history: Sequence[Mapping[str, Any]]
) -> None:
    """Print one version: figures with intervals, the gate's findings, its data, its model's history."""
    say(f"{version}  {' '.join(version.aliases)}", f"weights: {version.source}")
    say(*(f"  {line}" for line in _figures(version.tags)))
    findings = json.loads(version.tags.get("svd_loop.gate.findings", "[]"))
    say(*["the gate said:"] * bool(findings), *(finding_line(found) for found in findings))
    say(*["trained on:"] * bool(data))
    say(
        *(
            f"  round {row['round']}: {row['rows']} rows of {row['prompts']} prompts, {row['files'] or 'generated'}"
            for row in data
        )
    )
    say(*["history:"] * bool(history))
    say(
        *(
            f"  {event['at']} {event['what']}: version {event['version']} over {event['over'] or 'none'}"
            f"{' (' + event['why'] + ')' if event['why'] else ''}"
            for event in history
        )
    )


def finding_line(finding: Mapping[str, Any]) -> str:
    """A rule of the gate and its finding, as a line."""
    return f"  {'ok' if finding['passed'] else 'no'}  {finding['rule']}: {finding['text']}"


def print_history(found: Mapping[str, Any]) -> None:
    """Print the champions in order, with a column for each test set."""
    from rich.table import Table

    from svd_loop.report.tables import print_whole

    table = Table(title=f"{found['name']}: champions", title_justify="left")
    tests = list(found["frozen"])
    for heading in ("since", "version", "what", "job", "accepted", "tokens", *(f"test {test[:6]}" for test in tests)):
        table.add_column(heading)
    scores = {(test, one["version"]): one["score"] for test in tests for one in found["frozen"][test]}
    for champion in found["champions"]:
        length = champion["output_tokens"]
        measured = (scores.get((test, champion["version"])) for test in tests)
        table.add_row(
            champion["since"],
            str(champion["version"]),
            champion["what"],
            champion["job"] or "",
            _percent(champion["accepted_fraction"]),
            "" if length is None else f"{length:.1f}",
            *map(_percent, measured),
        )
    print_whole(stderr(), table)
    if len(tests) > 1:
        say("the test set was changed: figures are comparable within a column alone")
    if found["idle"]:
        say(f"refused, or jobs without gain, since then: {found['idle']}")
    print_budgets(found["budgets"])


def print_budgets(budgets: Sequence[Mapping[str, Any]]) -> None:
    """Print what is left of the error budget of each test set."""
    for one in budgets:
        made = f"test {one['test'][:6]}: {one['looks']} of {one['limit']} comparisons made"
        if one["spent"]:
            say(f"{made}; its error budget is spent: give data.test a fresh set of problems")
        else:
            left, next_level = (
                f"{100 * one['left']:.3g}% of {100 * one['alpha']:.3g}%",
                f"{100 * one['next_level']:.3g}%",
            )
            say(f"{made}; {left} of its error budget left, the next comparison at a level of {next_level}")


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f}%"


def _figures(tags: Mapping[str, str]) -> list[str]:
    """Tags in order, with a figure and its interval in one."""
    lines = []
    for key, value in sorted(tags.items()):
        if key in _HIDDEN or key.endswith((".low", ".high")):
            continue
        bounds = [tags.get(f"{key}.{end}") for end in ("low", "high")]
        interval = f" ({bounds[0]} to {bounds[1]})" if None not in bounds else ""
        lines.append(f"{key.removeprefix('svd_loop.')}: {value}{interval}")
    return lines


def _row(version: RegisteredVersion) -> list[str]:
    tags = version.tags
    scores = [_interval(tags, prefix) for prefix in ("svd_loop.pass_at_1", "svd_loop.test.pass_at_1")]
    known = [tags.get(f"svd_loop.{key}", "") for key in ("job", "round")]
    aliases = " ".join(version.aliases)
    return [version.name, str(version.number), aliases, *known, *scores, tags.get("svd_loop.gate", "")]


def _interval(tags: Mapping[str, str], name: str) -> str:
    try:
        value, low, high = (100 * float(tags[key]) for key in (name, f"{name}.low", f"{name}.high"))
    except (KeyError, ValueError):
        return ""
    return f"{value:.1f} ({low:.0f}-{high:.0f})"

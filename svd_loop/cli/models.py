"""`svd-loop models ...` and `svd-loop export`: what is registered, what is in use, and its weights as a folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from svd_loop.cli.commands import AsJson, ConfigFile, Overrides, load
from svd_loop.cli.output import print_json, stderr

if TYPE_CHECKING:
    from svd_loop.registry import RegisteredVersion
    from svd_loop.registry.gate import Decision

models = typer.Typer(help="Registered versions: list, compare, promote, roll back, serve.", no_args_is_help=True)

Root = Annotated[Path, typer.Option(help="Where jobs and the local store live.")]
Uri = Annotated[str | None, typer.Option(help="MLflow URI; without it the store below --root.")]
Reference = Annotated[
    str, typer.Argument(metavar="VERSION", help="NAME@ALIAS, NAME/NUMBER, or an alias alone where one model is known.")
]
ModelName = Annotated[str | None, typer.Argument(metavar="[NAME]", help="Registered model; may be left out if one.")]
_ROOT = Path("mlruns")


@models.command("list")
def list_versions(name: ModelName = None, root: Root = _ROOT, uri: Uri = None, as_json: AsJson = False) -> None:
    """All versions with their aliases and scores."""
    from rich.table import Table

    from svd_loop.registry.models import existing_registry, model_name, talking_to_registry, version_json

    with talking_to_registry():
        registry = existing_registry(uri, root)
        names = registry.names() if name is None else [model_name(registry, name)]
        versions = [version for known in names for version in registry.versions(known)]
    if as_json:
        print_json({"versions": [version_json(version) for version in versions]})
        return
    table = Table()
    for heading in ("model", "version", "aliases", "job", "round", "development", "test", "gate"):
        table.add_column(heading)
    for version in versions:
        table.add_row(*_row(version))
    stderr().print(table)


@models.command()
def show(version: Reference = "champion", root: Root = _ROOT, uri: Uri = None, as_json: AsJson = False) -> None:
    """One version: scores, digests, the data behind it, what the gate said; and its model's history."""
    from svd_loop.registry.models import (
        data_behind,
        event_json,
        existing_registry,
        find_version,
        talking_to_registry,
        version_json,
    )

    with talking_to_registry():
        registry = existing_registry(uri, root)
        found = find_version(registry, version)
        history = [event_json(event) for event in registry.history(found.name)]
    data = data_behind(found, root)
    if as_json:
        print_json({**version_json(found), "data": data, "history": history})
        return
    lines = [f"{found}  {' '.join(found.aliases)}", f"weights: {found.source}"]
    lines += [f"  {key.removeprefix('svd_loop.')}: {value}" for key, value in sorted(found.tags.items())]
    lines += ["trained on:"] if data else []
    lines += [f"  round {row['round']}: {row['rows']} rows of {row['prompts']} prompts, {row['files']}" for row in data]
    lines += ["history:"] if history else []
    lines += [f"  {event['at']} {event['what']}: version {event['version']} over {event['over'] or 'none'}"
              f"{' (' + event['why'] + ')' if event['why'] else ''}" for event in history]  # fmt: skip
    _say(*lines)


@models.command()
def history(name: ModelName = None, root: Root = _ROOT, uri: Uri = None, as_json: AsJson = False) -> None:
    """Champions over the months: what happened, their scores on test sets that stayed the same, what drifts."""
    from svd_loop.registry.history import model_history
    from svd_loop.registry.models import existing_registry, model_name, talking_to_registry

    with talking_to_registry():
        registry = existing_registry(uri, root)
        found = model_history(registry, model_name(registry, name))
    if as_json:
        print_json(found)
    else:
        _print_history(found)


@models.command()
def register(
    version: Annotated[str, typer.Argument(metavar="JOB@ROUND", help="A round of a job that has ended.")],
    root: Root = _ROOT,
    as_json: AsJson = False,
) -> None:
    """Register any version of a job, beside its best one, which is registered when the job ends. Moves no alias."""
    from svd_loop.registry.models import version_json
    from svd_loop.registry.registering import register_round

    found = register_round(version, root)
    if as_json:
        print_json(version_json(found))
    else:
        _say(
            f"{version} is {found}; svd-loop models promote CONFIG {found.name}/{found.number} puts it before the gate"
        )


@models.command()
def promote(
    config: ConfigFile,
    version: Reference = "challenger",
    override: Overrides = None,
    force: Annotated[str | None, typer.Option(metavar="REASON", help="Promote whatever the gate says.")] = None,
    as_json: AsJson = False,
) -> None:
    """Measure a version against the champion on the test split; exit code 3 if the gate refuses."""
    from svd_loop.errors import GateError
    from svd_loop.registry.models import find_version, registry_of, talking_to_registry
    from svd_loop.registry.promotion import promote as promote_version

    settings = load(config, override)
    with talking_to_registry():
        found = find_version(registry_of(settings), version)
    decision = promote_version(settings, found.name, found.number, force=force)
    promoted = decision.passed or force is not None
    if as_json:
        print_json({"name": found.name, "version": found.number, "promoted": promoted, "forced": force,
                    **_decision_json(decision)})  # fmt: skip
    else:
        _say(*(f"{'ok' if finding.passed else 'no'}  {finding.rule}: {finding.text}" for finding in decision.findings))
    if not promoted:
        told = "\n".join(f"  {finding.rule}: {finding.text}" for finding in decision.refusals)
        raise GateError(f"{found} was not promoted:\n{told}\n--force REASON promotes it all the same")
    _say(f"{found} is the champion")


@models.command()
def rollback(config: ConfigFile, name: ModelName = None, override: Overrides = None, as_json: AsJson = False) -> None:
    """Put the version that was in use before the champion back in use."""
    from svd_loop.registry.models import model_name, registry_of, talking_to_registry, version_json
    from svd_loop.registry.promotion import rollback as roll_back

    settings = load(config, override)
    with talking_to_registry():
        wanted = model_name(registry_of(settings), name)
    version = roll_back(settings, wanted)
    if as_json:
        print_json(version_json(version))
    else:
        _say(f"{version} is the champion again")


@models.command()
def diff(
    old: Annotated[str, typer.Argument(metavar="OLD")] = "champion",
    new: Annotated[str, typer.Argument(metavar="NEW")] = "challenger",
    root: Root = _ROOT,
    uri: Uri = None,
    as_json: AsJson = False,
) -> None:
    """What differs between two versions: scores, digests, configuration."""
    from svd_loop.registry.models import difference, existing_registry, find_version, talking_to_registry

    with talking_to_registry():
        registry = existing_registry(uri, root)
        found = difference(find_version(registry, old), find_version(registry, new), root)
    if as_json:
        print_json(found)
        return
    _say(f"version {found['old']} -> version {found['new']}", *(["the weights are the same"] * found["same_weights"]))
    _say(*(f"  {key.removeprefix('svd_loop.')}: {a} -> {b}" for key, (a, b) in found["tags"].items()))
    _say(*(f"  config {change}" for change in found["config"]))


@models.command()
def path(version: Reference = "champion", root: Root = _ROOT, uri: Uri = None, as_json: AsJson = False) -> None:
    """Print a local folder with a version's weights, digests checked, for `vllm serve` and `from_pretrained`."""
    from svd_loop.registry.models import (
        existing_registry,
        find_version,
        local_folder,
        servable_folder,
        talking_to_registry,
    )

    with talking_to_registry():
        registry = existing_registry(uri, root)
        found = find_version(registry, version)
    folder = local_folder(registry, found, root)
    served = servable_folder(folder, root / "models" / found.name).resolve()
    if as_json:
        print_json({"name": found.name, "version": found.number, "path": str(served)})
    else:
        typer.echo(str(served))


def export(
    job: Annotated[str, typer.Argument(help="Job name.")],
    to: Annotated[Path, typer.Option(help="A new folder.")],
    version: Annotated[str, typer.Option(help="best, last, or a round.")] = "best",
    adapter: Annotated[bool, typer.Option("--adapter", help="The adapter alone, as PEFT stores it.")] = False,
    root: Root = _ROOT,
    as_json: AsJson = False,
) -> None:
    """Write a version of a job as one checkpoint folder."""
    from svd_loop.registry.models import export_version

    written = export_version(job, root, version, to, adapter=adapter)
    if as_json:
        print_json({"version": written.name, "fingerprint": written.fingerprint, "path": str(to.resolve())})
    else:
        _say(f"{written.name} of {job} is in {to}")


def _print_history(found: Mapping[str, Any]) -> None:
    from rich.table import Table

    table = Table(title=f"{found['name']}: champions", title_justify="left")
    tests = list(found["frozen"])
    for heading in ("since", "version", "what", "job", "accepted", "tokens", *(f"test {test[:6]}" for test in tests)):
        table.add_column(heading)
    scores = {(test, one["version"]): one["score"] for test in tests for one in found["frozen"][test]}
    for champion in found["champions"]:
        length = champion["output_tokens"]
        measured = (scores.get((test, champion["version"])) for test in tests)
        table.add_row(
            champion["since"], str(champion["version"]), champion["what"], champion["job"] or "",
            _percent(champion["accepted_fraction"]), "" if length is None else f"{length:.1f}",
            *map(_percent, measured),
        )  # fmt: skip
    stderr().print(table)
    if len(tests) > 1:
        _say("the test set was changed: figures are comparable within a column alone")
    if found["idle"]:
        _say(f"since then {found['idle']} jobs were refused or gained nothing")


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f}%"


def _row(version: RegisteredVersion) -> list[str]:
    tags = version.tags
    scores = [_interval(tags, prefix) for prefix in ("svd_loop.pass_at_1", "svd_loop.test.pass_at_1")]
    known = [tags.get(f"svd_loop.{key}", "") for key in ("job", "round")]
    return [
        version.name,
        str(version.number),
        " ".join(version.aliases),
        *known,
        *scores,
        tags.get("svd_loop.gate", ""),
    ]


def _interval(tags: Any, name: str) -> str:
    try:
        value, low, high = (100 * float(tags[key]) for key in (name, f"{name}.low", f"{name}.high"))
    except (KeyError, ValueError):
        return ""
    return f"{value:.1f} ({low:.0f}-{high:.0f})"


def _decision_json(decision: Decision) -> dict[str, Any]:
    from dataclasses import asdict

    return {"passed": decision.passed, "findings": [asdict(finding) for finding in decision.findings]}


def _say(*lines: str) -> None:
    for line in lines:
        stderr().print(line, markup=False, highlight=False)

"""`svd-loop models ...`: registered versions, aliases, and weights as a folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from svd_loop.cli.commands import AsJson, ConfigFile, Overrides, load
from svd_loop.cli.models_view import finding_line, print_budgets, print_history, print_version, print_versions, say
from svd_loop.cli.output import print_json
from svd_loop.contracts import RootPaths

if TYPE_CHECKING:
    from svd_loop.promotion.gate import Decision

models = typer.Typer(help="Registered versions: list, compare, promote, roll back, serve.", no_args_is_help=True)

Root = Annotated[Path, typer.Option(help="Folder of jobs and of the local store (job.root).")]
Uri = Annotated[str | None, typer.Option(help="MLflow URI; default is the store below --root.")]
Reference = Annotated[
    str, typer.Argument(metavar="VERSION", help="NAME@ALIAS, NAME/NUMBER, or an alias if one model is registered.")
]
ModelName = Annotated[str | None, typer.Argument(metavar="[NAME]", help="Registered model; optional if there is one.")]
_ROOT = Path("mlruns")


@models.command("list")
def list_versions(name: ModelName = None, root: Root = _ROOT, uri: Uri = None, as_json: AsJson = False) -> None:
    """List all versions with their aliases and scores."""
    from svd_loop.promotion.lookup import existing_registry, model_name, registry_errors, version_json

    with registry_errors():
        registry = existing_registry(uri, root)
        names = registry.names() if name is None else [model_name(registry, name)]
        versions = [version for known in names for version in registry.versions(known)]
    if as_json:
        print_json({"versions": [version_json(version) for version in versions]})
    else:
        print_versions(versions)


@models.command()
def show(version: Reference = "champion", root: Root = _ROOT, uri: Uri = None, as_json: AsJson = False) -> None:
    """Show one version: scores, digests, its data, the gate's findings; its model's history and error budgets."""
    from svd_loop.promotion.budget import budgets
    from svd_loop.promotion.lookup import (
        event_json,
        existing_registry,
        find_version,
        registry_errors,
        training_data,
        version_json,
    )

    with registry_errors():
        registry = existing_registry(uri, root)
        found = find_version(registry, version)
        events = registry.history(found.name)
    history, left = [event_json(event) for event in events], [budget.json() for budget in budgets(events)]
    data = training_data(found, root)
    if as_json:
        print_json({**version_json(found), "data": data, "history": history, "budgets": left})
    else:
        print_version(found, data, history)
        print_budgets(left)


@models.command()
def history(name: ModelName = None, root: Root = _ROOT, uri: Uri = None, as_json: AsJson = False) -> None:
    """List the champions over time, with their scores on each test set and what drifts."""
    from svd_loop.promotion.history import model_history
    from svd_loop.promotion.lookup import existing_registry, model_name, registry_errors

    with registry_errors():
        registry = existing_registry(uri, root)
        found = model_history(registry, model_name(registry, name))
    if as_json:
        print_json(found)
    else:
        print_history(found)


@models.command()
def register(
    version: Annotated[str, typer.Argument(metavar="JOB@ROUND", help="A round of a job that has ended.")],
    root: Root = _ROOT,
    as_json: AsJson = False,
) -> None:
    """Register any version of an ended job (its best is registered when it ends). Moves no alias."""
    from svd_loop.promotion.lookup import version_json
    from svd_loop.promotion.registering import register_round

    found = register_round(version, root)
    if as_json:
        print_json(version_json(found))
    else:
        say(f"{version} is {found}; svd-loop models promote CONFIG {found.name}/{found.number} puts it before the gate")


@models.command()
def promote(
    config: ConfigFile,
    version: Reference = "challenger",
    override: Overrides = None,
    force: Annotated[
        str | None, typer.Option(metavar="REASON", help="Promote in spite of the gate, for this reason.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare a version with the champion on the test split, and promote it; exit code 3 if the gate refuses."""
    from dataclasses import asdict

    from svd_loop.errors import GateError
    from svd_loop.promotion.lookup import configured_model, find_version, registry_errors, registry_of
    from svd_loop.promotion.promotion import promote as promote_version

    settings = load(config, override)
    with registry_errors():
        found = find_version(registry_of(settings), version, configured_model(settings))
    decision = promote_version(settings, found.name, found.number, force=force)
    promoted = decision.passed or force is not None
    if as_json:
        print_json(
            {
                "name": found.name,
                "version": found.number,
                "promoted": promoted,
                "forced": force,
                **_decision_json(decision),
            }
        )
    else:
        shown = decision.findings if promoted else tuple(one for one in decision.findings if one.passed)
        say(*(finding_line(asdict(one)) for one in shown))  # those that refuse stand in the error
    if not promoted:
        reasons = "\n".join(f"  {finding.rule}: {finding.text}" for finding in decision.refusals)
        raise GateError(f"{found} was not promoted:\n{reasons}\n--force REASON promotes it nevertheless")
    say(f"{found} is the champion")


@models.command()
def rollback(config: ConfigFile, name: ModelName = None, override: Overrides = None, as_json: AsJson = False) -> None:
    """Make the previous champion champion again."""
    from svd_loop.promotion.lookup import (
        configured_model,
        model_name,
        registry_errors,
        registry_of,
        version_json,
    )
    from svd_loop.promotion.promotion import rollback as roll_back

    settings = load(config, override)
    with registry_errors():
        wanted = model_name(registry_of(settings), name, configured_model(settings))
    version = roll_back(settings, wanted)
    if as_json:
        print_json(version_json(version))
    else:
        say(f"{version} is the champion again")


@models.command()
def diff(
    old: Annotated[str, typer.Argument(metavar="OLD")] = "champion",
    new: Annotated[str, typer.Argument(metavar="NEW")] = "challenger",
    root: Root = _ROOT,
    uri: Uri = None,
    as_json: AsJson = False,
) -> None:
    """Show what differs between two versions: scores, digests, configuration."""
    from svd_loop.promotion.lookup import difference, existing_registry, find_version, registry_errors

    with registry_errors():
        registry = existing_registry(uri, root)
        found = difference(find_version(registry, old), find_version(registry, new), root)
    if as_json:
        print_json(found)
        return
    say(f"version {found['old']} -> version {found['new']}", *(["the weights are the same"] * found["same_weights"]))
    say(*(f"  {key.removeprefix('svd_loop.')}: {a} -> {b}" for key, (a, b) in found["tags"].items()))
    say(*(f"  config {change}" for change in found["config"]))


@models.command()
def path(version: Reference = "champion", root: Root = _ROOT, uri: Uri = None, as_json: AsJson = False) -> None:
    """Print a local folder with a version's weights, digests checked, for `vllm serve` and `from_pretrained`."""
    from svd_loop.promotion.lookup import (
        existing_registry,
        find_version,
        local_folder,
        registry_errors,
        servable_folder,
    )

    with registry_errors():
        registry = existing_registry(uri, root)
        found = find_version(registry, version)
    folder = local_folder(registry, found, root)
    served = servable_folder(folder, RootPaths(root).model(found.name)).resolve()
    if as_json:
        print_json({"name": found.name, "version": found.number, "path": str(served)})
    else:
        typer.echo(str(served))


def _decision_json(decision: Decision) -> dict[str, Any]:
    from dataclasses import asdict

    return {"passed": decision.passed, "findings": [asdict(finding) for finding in decision.findings]}

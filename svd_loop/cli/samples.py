"""`svd-loop samples`: the prompts of a job with their candidates, filtered, for the terminal."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from svd_loop.cli.output import stderr

if TYPE_CHECKING:
    from svd_loop.ledger import LedgerReader
    from svd_loop.ledger.browse import PlayedPrompt, ShownCandidate
    from svd_loop.ledger.prompt_filter import PromptFilter


def samples(
    job: Annotated[str, typer.Argument(help="Job name.")],
    where: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE",
            help="Only these; repeatable, all must hold: round=2, domain=math, outcome=accepted|refused|mixed|trained, "
            "rejection=vote, stage=factuality, votes=yyn or split, text=WORDS.",
        ),
    ] = None,
    root: Annotated[Path, typer.Option(help="Folder of jobs (job.root).")] = Path("mlruns"),
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="Prompts at most.")] = 20,
    after: Annotated[str, typer.Option(metavar="ROUND:PROMPT_ID", help="Go on behind this prompt.")] = "",
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object a line, with solutions, votes and words.")
    ] = False,
) -> None:
    """List a job's prompts with the outcome of each candidate: y, n and i are votes; + became a training row."""
    from svd_loop.contracts import RootPaths
    from svd_loop.ledger import LedgerReader
    from svd_loop.ledger.browse import candidates_of, prompt_of

    wanted, round = _parsed(where or ())
    found: PlayedPrompt | None = None
    shown = 0
    with LedgerReader.open_for_reading(RootPaths(root).job(job).folder) as reader:
        for found in _found(reader, wanted, _rounds(reader, job, round), after, limit):
            shown += 1
            if as_json:
                prompt = prompt_of(reader, found.id) or {"id": found.id}
                candidates = [_plain(one) for one in candidates_of(reader, found.round, found.id)]
                typer.echo(
                    json.dumps(
                        {"round": found.round, **prompt, "candidates": candidates}, ensure_ascii=False, default=str
                    )
                )
            else:
                for line in _lines(found):
                    stderr().print(line, markup=False, highlight=False)
    if not as_json:
        more = f"; --after {found.round}:{found.id} shows more" if found is not None and shown == limit else ""
        stderr().print(f"{shown} prompts{more}", markup=False, highlight=False)


def _parsed(where: Sequence[str]) -> tuple[PromptFilter, int | None]:
    """The filter and the round that `KEY=VALUE` conditions say."""
    from svd_loop.errors import ConfigError
    from svd_loop.ledger.prompt_filter import PromptFilter
    from svd_loop.support.listing import listing

    known = ["round", *(field.name for field in fields(PromptFilter))]
    conditions: dict[str, str] = {}
    for condition in where:
        key, sign, value = condition.partition("=")
        if not sign or key not in known or not value:
            raise ConfigError(f"--where {condition}: is KEY=VALUE with a value, and KEY one of {listing(key, known)}")
        if key in conditions:
            raise ConfigError(f"--where {condition}: {key} is given twice; all conditions must hold for a prompt")
        conditions[key] = value
    round = conditions.pop("round", None)
    if round is not None and not round.isdecimal():
        raise ConfigError(f"--where round={round}: is a whole number")
    return PromptFilter(**conditions), None if round is None else int(round)


def _rounds(reader: LedgerReader, job: str, wanted: int | None) -> list[int]:
    from svd_loop.errors import ConfigError

    played = [row["round"] for row in reader.query("SELECT round FROM rounds WHERE round > 0 ORDER BY round")]
    if wanted is not None and wanted not in played:
        raise ConfigError(f"--where round={wanted}: {job} has played {', '.join(map(str, played)) or 'no round'}")
    return played if wanted is None else [wanted]


def _found(
    reader: LedgerReader, wanted: PromptFilter, rounds: Sequence[int], after: str, limit: int
) -> Iterator[PlayedPrompt]:
    from svd_loop.errors import ConfigError
    from svd_loop.ledger.browse import find_prompts

    start, _, place = after.partition(":")
    if after and not (start.isdecimal() and place):
        raise ConfigError(f"--after {after}: has the form ROUND:PROMPT_ID, as the last line of a page says")
    for round in rounds:
        if after and round < int(start):
            continue
        behind = place if after and round == int(start) else ""
        page = find_prompts(reader, round, wanted, after=behind, limit=limit, seconds=float("inf"))
        yield from page.prompts
        limit -= len(page.prompts)
        if limit <= 0:
            return


def _plain(one: ShownCandidate) -> dict[str, Any]:
    """A candidate as plain data, its mark's fields among its own."""
    data = asdict(one)
    mark = data.pop("mark")
    del data["calls"]
    return {**mark, **data}


def _lines(found: PlayedPrompt) -> Iterator[str]:
    marks: list[Any] = []
    for mark in found.marks:
        outcome = "+" if mark.selected else "accepted" if mark.accepted else mark.stage or mark.rejection
        marks.append(f"{mark.candidate}:{mark.votes or '-'} {outcome}")
    yield f"{found.id}  round {found.round}  {found.domain}  {found.accepted} of {len(found.marks)} accepted"
    yield f"  {found.words}"
    yield f"  {'; '.join(marks)}"

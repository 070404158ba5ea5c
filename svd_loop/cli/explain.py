"""`svd-loop explain`: the prompts of a job, and why each candidate of one was accepted or not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from svd_loop.cli.commands import AsJson
from svd_loop.cli.output import print_json, stderr

if TYPE_CHECKING:
    from svd_loop.promotion.lineage import Explanation, LearnedJudgement, TrainedVersion
    from svd_loop.promotion.verdicts_of_prompts import AskedPrompt, JudgedCandidate


def explain(
    job: Annotated[str, typer.Argument(help="Job name.")],
    example: Annotated[
        str | None,
        typer.Argument(metavar="[EXAMPLE]", help="PROMPT_ID or PROMPT_ID:CANDIDATE; without it prompts are listed."),
    ] = None,
    root: Annotated[Path, typer.Option(help="Folder of jobs (job.root).")] = Path("mlruns"),
    offset: Annotated[int, typer.Option(min=0, help="First prompt of the list.")] = 0,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="Prompts in the list.")] = 50,
    as_json: AsJson = False,
) -> None:
    """Show a prompt's candidates, votes, verdicts and the versions trained on it; without an id, list the prompts."""
    if example is None:
        _list(job, root, offset, limit, as_json)
        return
    from svd_loop.promotion.lineage import explain as explain_rows
    from svd_loop.promotion.lineage import learned_judgements
    from svd_loop.promotion.verdicts_of_prompts import asked_prompt, judged_candidates

    prompt = asked_prompt(job, root, example)
    candidates, rows = judged_candidates(job, root, example), explain_rows(job, root, example)
    judgements = learned_judgements(job, root, example)
    if as_json:
        plain = {
            "rows": [asdict(row) for row in rows],
            "candidates": [asdict(one) for one in candidates],
            "judge_rows": [asdict(one) for one in judgements],
        }
        print_json({"job": job, "prompt": asdict(prompt), **plain})
        return
    learned = {(row.round, row.candidate): row for row in rows}
    _say(f"prompt {prompt.id} ({prompt.domain}, {prompt.source or 'generated'}):")
    _say(*_indented(prompt.text), "")
    for one in candidates:
        _say(*_lines(one, learned.get((one.round, one.candidate))))
    if not candidates:
        _say("no finished round has sampled it", "")
    _say(*_judgement_lines(judgements))
    if ":" not in example:
        _say(*_canary_lines(prompt))


def _list(job: str, root: Path, offset: int, limit: int, as_json: bool) -> None:
    from svd_loop.promotion.verdicts_of_prompts import list_prompts

    total, prompts = list_prompts(job, root, offset=offset, limit=limit)
    if as_json:
        print_json({"job": job, "total": total, "offset": offset, "prompts": [asdict(one) for one in prompts]})
        return
    for one in prompts:
        _say(
            f"{one.id}  round {one.round}  {one.domain}  {one.accepted} of {one.candidates} candidates accepted  "
            f"{one.words}"
        )
    last = offset + len(prompts)
    _say(f"{total} prompts played" + (f"; --offset {last} shows more" if prompts and last < total else ""))


def _lines(one: JudgedCandidate, row: Explanation | None) -> Iterator[str]:
    yield f"candidate {one.candidate} in round {one.round}: {one.decided}"
    yield f"solution by {one.written_by['name']} ({one.written_by['fingerprint'][:12]}):"
    yield from _indented(one.solution)
    yield f"votes ({len(one.votes)}):" if one.votes else "no votes: it was not judged by the policy"
    for vote in one.votes:
        yield f"  {vote['stage']} {vote['vote']}: {vote['value']}"
        yield from _indented(vote["words"], "    ")
    if row is not None:
        yield f"trained on it: {_names(row.trained)}"
        yield f"built on those: {_names(row.inherited)}"
    yield ""


def _judgement_lines(judgements: Sequence[LearnedJudgement]) -> Iterator[str]:
    """The judgements that became training rows of the judge."""
    if judgements:
        yield "judge rows: the judge's own replies, trained on because their verdict could be inferred"
    for one in judgements:
        said = one.value or "prepares a vote"
        about = "a planted answer" if one.reason == "planted" else f"candidate {one.candidate}"
        yield f"  round {one.round}, {one.stage}, {about}: {said} ({one.reason})"
        yield f"    trained on it: {_names(one.trained)}"


def _canary_lines(prompt: AskedPrompt) -> Iterator[str]:
    """What the judge said about planted wrong answers to the prompt."""
    place = None
    for reply in prompt.canaries:
        if place != (reply["round"], reply["canary"]):
            place = reply["round"], reply["canary"]
            yield f"canary {reply['canary']} in round {reply['round']}: a planted wrong answer to this prompt"
        yield f"  {reply['stage']} {reply['vote']}, {reply['role']}:"
        yield from _indented(reply["words"], "    ")


def _say(*lines: str) -> None:
    for line in lines:
        stderr().print(line, markup=False, highlight=False, soft_wrap=True)


def _indented(text: str, indent: str = "  ") -> list[str]:
    return [f"{indent}{line}" for line in text.splitlines()]


def _names(versions: Sequence[TrainedVersion]) -> str:
    return ", ".join(f"{v.name} ({v.fingerprint[:12]})" for v in versions) or "none"

"""The input and output files of `svd-loop judge`, and files of labelled answers.

Lines are read as the prompts of a job are (`envs.prompts.files`), so that a line is what JSON Lines says it is,
with any characters in its texts. An empty solution is a valid answer: its candidate is rejected as
empty, and the rest of the file is judged. Left out: joining answers with a second file of questions.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from envs.prompts import content_id
from envs.prompts.files import Row, json_lines
from envs.prompts.normalise import is_blank
from envs.prompts.reading import prompt_text
from svd_loop.config.domains import section_of
from svd_loop.contracts import Candidate, DomainName, Prompt, Verdict
from svd_loop.contracts.conversation import as_data
from svd_loop.errors import ConfigError, DataError, SvdError

_FIELDS = ("prompt", "solution", "domain", "id", "correct")


@dataclass(frozen=True, slots=True)
class Answer:
    """One line: a solution to judge, its id in the file, and its label; None if it has none."""

    prompt: Prompt
    candidate: Candidate
    id: str | int | None = None
    correct: bool | None = None


def read_answers(path: Path, domain: DomainName, *, labelled: bool = False) -> list[Answer]:
    """Read the answers of a file of `{"prompt", "solution"}` lines, each with optional `id` and `domain`.

    Several answers to one prompt are candidates 0, 1, ... of it, in the order of the file.

    Args:
        path: JSON Lines; `.gz` and `.zst` are unpacked.
        domain: default for lines without one.
        labelled: whether every line must say `"correct": true` or `false`; otherwise a label is not looked at.

    Raises:
        DataError: a line cannot be used, naming file, line and field.
    """
    seen: Counter[str] = Counter()
    answers: list[Answer] = []
    for row in json_lines(path, _FIELDS):
        question, solution = _question(row), _text(row, "solution")
        about = _domain(row, domain)
        prompt = Prompt(content_id(question, about), question, about, row.where)
        correct = _label(row) if labelled else None
        answers.append(Answer(prompt, Candidate(prompt.id, seen[prompt.id], solution), _own_id(row), correct))
        seen[prompt.id] += 1
    return answers


def refuse_unwritable(output: Path, source: Path) -> None:
    """Raise an error before any work if the verdicts cannot be written to `output`.

    Raises:
        ConfigError: the folder does not exist or cannot be written to, or the name is taken by a folder or the input.
    """
    if output.is_dir():
        raise ConfigError(f"--output {output}: is a folder; name a file")
    if output.exists() and source.exists() and output.samefile(source):
        raise ConfigError(f"--output {output}: is the input; the answers would be overwritten")
    partial = _partial(output)
    try:
        partial.touch()
        partial.unlink()
    except OSError as error:
        raise ConfigError(f"--output {output}: cannot be written: {error.strerror or error}") from None


def write_verdicts(output: Path, answers: Iterable[Answer], verdicts: Iterable[Verdict]) -> None:
    """Write one line per answer, in order; the file appears when it is complete.

    Raises:
        SvdError: the disk is full, or the folder was removed; the votes are kept, the same command writes them.
    """
    partial = _partial(output)
    try:
        with partial.open("w", encoding="utf-8") as file:
            file.writelines(
                json.dumps(_line(answer, verdict), ensure_ascii=False) + "\n"
                for answer, verdict in zip(answers, verdicts, strict=True)
            )
        partial.replace(output)
    except OSError as error:
        raise SvdError(
            f"{output}: cannot be written: {error.strerror or error}; every vote is kept, the same command writes them"
        ) from None


def _partial(output: Path) -> Path:
    return output.with_name(f"{output.name}.part")


def _question(row: Row) -> str:
    """The prompt as one text; it may be a list of messages."""
    if isinstance(messages := row.values.get("prompt"), list):
        return prompt_text(messages, f"{row.where}: `prompt`")
    question = _text(row, "prompt")
    if is_blank(question):
        raise DataError(f"{row.where}: `prompt` is empty")
    return question


def _text(row: Row, name: str) -> str:
    value = row.values.get(name)
    if not isinstance(value, str):
        found = "nothing" if value is None else f"{type(value).__name__} {str(value)[:60]!r}"
        raise DataError(f"{row.where}: needs `{name}` as text, found {found}")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"{row.where}: `{name}` holds half a surrogate pair at character {error.start + 1}") from None
    return value


def _domain(row: Row, default: DomainName) -> DomainName:
    value = row.values.get("domain")
    if value is None or value == "":
        return default
    try:
        section_of(str(value))
    except ConfigError as error:
        raise DataError(f"{row.where}: {error}") from None
    return str(value)


def _label(row: Row) -> bool:
    value = row.values.get("correct")
    if not isinstance(value, bool):
        raise DataError(f"{row.where}: needs `correct` as true or false, found {value!r:.60}")
    return value


def _own_id(row: Row) -> str | int | None:
    value = row.values.get("id")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise DataError(f"{row.where}: `id` is text or a whole number, found {type(value).__name__}")
    return _text(row, "id") if isinstance(value, str) else value


def _line(answer: Answer, verdict: Verdict) -> dict[str, Any]:
    votes = [{"stage": vote.stage, "vote": vote.vote, "value": vote.value, "text": vote.text} for vote in verdict.votes]
    return {
        **({} if answer.id is None else {"id": answer.id}),
        "prompt": as_data(answer.prompt.text),
        "solution": answer.candidate.text,
        "accepted": verdict.accepted,
        "rejection": verdict.rejection,
        "stage": verdict.stage,
        "vote": verdict.vote,
        "votes": votes,
    }

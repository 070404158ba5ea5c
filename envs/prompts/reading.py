"""Turn rows of files into prompts and problems, or raise a `DataError` that names the file and the line.

A prompt is identified by its content (`normalise.content_id`), not by the id in its file: a question that comes with
two ids is one question, and new row numbers in a file do not start the job over. A training row's own id is
kept with its place (`Prompt.source` is `train.jsonl:17 id=abc`); among held-out rows, where ids identify what was
measured, a repeated id is an error.

Gold of training rows stops here: only the mapped prompt, id and domain are read, and columns known
to hold gold are counted and named once in the log. Held-out rows keep their answer or tests, as a `Problem`.
"""

from __future__ import annotations

import logging
import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from envs.prompts.files import Row, expand, rows
from envs.prompts.messages import ends_with_answer, messages_text
from envs.prompts.normalise import clean, content_id, is_blank
from envs.prompts.program_form import with_form
from envs.prompts.program_shapes import BESIDE, COLUMNS, tests_in
from envs.prompts.program_tests import CallTest, ProgramTest, ScriptTest, to_text
from svd_loop.config.data import FilesSource
from svd_loop.config.domains import section_of
from svd_loop.contracts import DomainName, Problem, Prompt
from svd_loop.contracts.conversation import MARK
from svd_loop.errors import ConfigError, DataError

GOLD_FIELDS = frozenset(
    {
        "answer",
        "answers",
        "final_answer",
        "expected_answer",
        "reference_answer",
        "correct_answer",
        "gold",
        "gold_answer",
        "ground_truth",
        "reference",
        "reference_solution",
        "solution",
        "solutions",
        "canonical_solution",
        "generated_solution",
        "label",
        "labels",
        "target",
        "targets",
        "output",
        "outputs",
        "response",
        "responses",
        "completion",
        "completions",
        "rationale",
        "explanation",
        "reward_model",
        "test",
        "tests",
        "test_list",
        "test_cases",
        "unit_tests",
        "public_test_cases",
        "private_test_cases",
        "input_output",
        "public_tests",
        "private_tests",
        "generated_tests",
        "challenge_test_list",
    }
)
"""Column names (case ignored) treated as gold in training rows, besides the columns mapped as answer and tests."""

_log = logging.getLogger(__name__)


class PromptStream(Iterator[Prompt]):
    """Iterator over the training prompts of a source, read on demand.

    Attributes:
        gold_fields: Gold columns found so far and the number of rows that had them.

    Raises:
        DataError: A file is missing (at once), or a row cannot be used (when it is reached).
    """

    def __init__(self, source: FilesSource) -> None:
        self.gold_fields: Counter[str] = Counter()
        _check_fields(source)
        self._prompts = self._read(source, _RowReader(source))

    def __next__(self) -> Prompt:
        """The next prompt."""
        return next(self._prompts)

    def _read(self, source: FilesSource, reader: _RowReader) -> Iterator[Prompt]:
        fields = source.fields
        gold = (GOLD_FIELDS | {fields.answer.casefold(), fields.tests.casefold()}) - {
            name.casefold() for name in (fields.prompt, fields.id, fields.domain) if name is not None
        }
        for row in reader.rows(()):
            for name in row.columns:
                if name.casefold() in gold:
                    self._drop_gold(name, row)
            if ends_with_answer(row.values.get(fields.prompt)):
                self._drop_gold(f"{fields.prompt} (its final assistant turn)", row)
            text, domain = reader.text(row), reader.domain(row)
            if section_of(domain).gold == "tests":
                text = with_form(text, starter=reader.starter(row))
            own_id = reader.own_id(row)
            yield Prompt(content_id(text, domain), text, domain, f"{row.where} id={own_id}" if own_id else row.where)

    def _drop_gold(self, name: str, row: Row) -> None:
        if name not in self.gold_fields:
            _log.warning("%s: field '%s' looks like gold and is dropped from every training row", row.where, name)
        self.gold_fields[name] += 1


def read_prompts(source: FilesSource) -> PromptStream:
    """Read unlabeled training prompts of files as a stream.

    Raises:
        DataError: See `PromptStream`.
    """
    return PromptStream(source)


def read_problems(source: FilesSource) -> list[Problem]:
    """Read held-out problems with gold: an answer, or tests for coding.

    Raises:
        DataError: A file or row cannot be used, a row has no gold, or a problem or an id appears twice.
    """
    _check_fields(source)
    reader = _RowReader(source)
    pattern = _answer_pattern(source)
    problems: list[Problem] = []
    first_seen: dict[str, str] = {}
    columns = (source.fields.answer, source.fields.tests, *BESIDE, *(name for names in COLUMNS for name in names))
    for row in reader.rows(columns):
        text, domain = reader.text(row), reader.domain(row)
        if section_of(domain).gold == "tests":
            tests = _tests(row, source)
            text = _with_form_of(tests, text, reader.starter(row))
            gold: dict[str, Any] = {"tests": tuple(map(to_text, tests))}
        else:
            gold = _answer(row, source, pattern)
        own_id = reader.own_id(row)
        problem = Problem(content_id(text, domain), text, domain, source=row.where, own_id=own_id, **gold)
        for kind, key in (("problem", problem.id), ("id", own_id)):
            earlier = first_seen.setdefault(f"{kind} {key}", row.where) if key else row.where
            if earlier != row.where:
                raise DataError(
                    f"{row.where}: the same {kind} as {earlier}; a held-out problem counts once, remove one"
                )
        problems.append(problem)
    return problems


class _RowReader:
    """Reads the columns that every row needs, and checks them."""

    def __init__(self, source: FilesSource) -> None:
        self._source = source
        self._paths = expand(source.paths)

    def rows(self, gold: tuple[str, ...]) -> Iterator[Row]:
        """All rows up to the source's limit, with the mapped columns and those in `gold`."""
        fields = self._source.fields
        names = (fields.prompt, fields.id, fields.domain, fields.starter_code, *gold)
        wanted = [name for name in dict.fromkeys(names) if name is not None]
        count = 0
        for path in self._paths:
            for row in rows(path, wanted):
                yield row
                count += 1
                if count == self._source.limit:
                    return

    def text(self, row: Row) -> str:
        name = self._source.fields.prompt
        if name not in row.columns:
            raise DataError(
                f"{row.where}: no field '{name}' (found: {_shown(row.columns)}); set fields.prompt of this source"
            )
        value = row.values.get(name)
        return prompt_text(value, f"{row.where}: field '{name}'")

    def domain(self, row: Row) -> DomainName:
        name = self._source.fields.domain
        value = row.values.get(name) if name is not None else None
        if value is None or value == "":
            if self._source.domain is None:
                raise DataError(
                    f"{row.where}: names no domain; set domain of this source, or fields.domain to the column that does"
                )
            return self._source.domain
        if not isinstance(value, str):
            raise DataError(f"{row.where}: field '{name}' must name a domain, found {_kind(value)}")
        domain = value.strip().lower()
        try:
            section_of(domain)
        except ConfigError as error:
            raise DataError(f"{row.where}: field '{name}': {error}") from None
        return domain

    def starter(self, row: Row) -> str | None:
        """The starter code of a coding row; empty for a whole program, None if the row does not say."""
        name = self._source.fields.starter_code
        value = row.values.get(name) if name is not None else None
        if value is None:
            return None
        if not isinstance(value, str):
            raise DataError(f"{row.where}: field '{name}' must be starter code as text, found {_kind(value)}")
        return usable_text(value, f"{row.where}: field '{name}'") if value.strip() else ""

    def own_id(self, row: Row) -> str:
        """The row's id in its file, as text on one line; empty if there is none."""
        name = self._source.fields.id
        value = row.values.get(name) if name is not None else None
        if value is None or value == "":
            return ""
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise DataError(f"{row.where}: field '{name}' must be text or a whole number, found {_kind(value)}")
        if isinstance(value, int) and abs(value) >= 2**127:
            raise DataError(f"{row.where}: field '{name}' is a number beyond 128 bits; give ids as text")
        text = usable_text(str(value), f"{row.where}: field '{name}'")
        if len(text) > 200 or "\n" in text:
            raise DataError(f"{row.where}: field '{name}' must be one line of at most 200 characters")
        return text


def prompt_text(value: Any, what: str) -> str:
    """Return a prompt, given as text or as messages, as one text; `what` as in `usable_text`.

    Raises:
        DataError: it is neither, or its text cannot be used.
    """
    if isinstance(value, list):
        return messages_text(value, what, _without_mark)
    if not isinstance(value, str):
        raise DataError(f"{what} must be text or a list of messages, found {_kind(value)}")
    return _without_mark(value, what)


def _without_mark(value: str, what: str) -> str:
    return usable_text(value.replace(MARK, ""), what)


def usable_text(value: str, what: str) -> str:
    """Return `value` as stored; `what` (file, line and field) starts the error message.

    Raises:
        DataError: The text is blank, or holds a NUL or half a surrogate pair.
    """
    if "\0" in value:
        raise DataError(f"{what} holds a NUL character")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"{what} holds half a surrogate pair at character {error.start + 1}") from None
    if is_blank(value):
        raise DataError(f"{what} is empty")
    return clean(value)


# -------------------------------------------------------------------------------------------------- gold


def _answer(row: Row, source: FilesSource, pattern: re.Pattern[str] | None) -> dict[str, Any]:
    name = source.fields.answer
    value = row.values.get(name)
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise DataError(f"{row.where}: field '{name}' must be the gold answer, text or a number, found {_kind(value)}")
    if isinstance(value, float) and not math.isfinite(value):
        raise DataError(f"{row.where}: field '{name}' must be a finite number, found {value}; no answer equals it")
    try:
        answer = usable_text(str(value), f"{row.where}: field '{name}'")
    except ValueError as error:  # an integer with too many digits to convert
        raise DataError(f"{row.where}: field '{name}': {error}") from None
    if pattern is None:
        return {"answer": answer}
    match = pattern.search(answer)
    if match is None or not (match.group(1) or "").strip():
        raise DataError(f"{row.where}: answer_pattern {pattern.pattern!r} finds nothing in field '{name}'")
    return {"answer": match.group(1).strip()}


def _tests(row: Row, source: FilesSource) -> list[ProgramTest]:
    try:
        tests = tests_in(row.values, source.fields.tests, source.number_tolerance)
    except ValueError as error:
        raise DataError(f"{row.where}: {error}") from None
    what = f"{row.where}: field '{source.fields.tests}', test"
    return [
        usable_text(test, f"{what} {index}") if isinstance(test, str) else test
        for index, test in enumerate(tests, start=1)
    ]


def _with_form_of(tests: Sequence[ProgramTest], text: str, starter: str | None) -> str:
    """The question with the form of program that its tests are for."""
    first = tests[0]
    if isinstance(first, ScriptTest):
        return with_form(text, starter="")
    return with_form(text, starter=starter or None, function=first.function if isinstance(first, CallTest) else "")


def _answer_pattern(source: FilesSource) -> re.Pattern[str] | None:
    if source.answer_pattern is None:
        return None
    try:
        pattern = re.compile(source.answer_pattern)
    except re.error as error:
        raise DataError(f"answer_pattern {source.answer_pattern!r} is not a regular expression: {error}") from None
    if not pattern.groups:
        raise DataError(f"answer_pattern {source.answer_pattern!r} has no group; put brackets around the answer")
    return pattern


def _check_fields(source: FilesSource) -> None:
    fields = source.fields
    if fields.prompt in (fields.answer, fields.tests):
        raise DataError(
            f"fields.prompt: the column '{fields.prompt}' is also mapped as gold; a prompt must not show its answer"
        )


def _kind(value: object) -> str:
    if value is None:
        return "nothing"
    shown = repr(value) if isinstance(value, str | float | bool) else type(value).__name__
    return shown if len(shown) <= 60 else f"{shown[:57]}..."


def _shown(names: Any) -> str:
    text = ", ".join(map(str, names)) or "none"
    text = text.encode("ascii", "backslashreplace").decode() if not text.isprintable() else text
    return text if len(text) <= 200 else f"{text[:197]}..."

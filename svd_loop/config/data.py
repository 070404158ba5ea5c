"""The `data` section: where prompts and held-out problems come from, and which rows are refused."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from svd_loop.config.base import Fraction, Positive, Section
from svd_loop.config.domains import DOMAINS, KnownDomain


class FieldMap(Section):
    """Names of the columns in the user's files."""

    prompt: str = "prompt"
    """Column with the question."""
    id: str | None = "id"
    """Column with the user's id. It may be missing: ids are then made from content."""
    domain: str | None = "domain"
    """Column with math, science or coding; rows without it take the source's `domain`."""
    answer: str = "answer"
    """Held-out only: column with the gold answer."""
    tests: str = "tests"
    """Held-out coding only: column with the tests, in any form of docs/guides/data.md. Rows without it may have the
    columns of LiveCodeBench, APPS, TACO, CodeContests, MBPP or HumanEval."""
    starter_code: str | None = "starter_code"
    """Coding: column with the beginning of the program, shown with the question; empty text says that a whole program
    is wanted. Rows without the column say nothing about it."""


class FilesSource(Section):
    """Rows from files."""

    type: Literal["files"] = "files"
    paths: Annotated[tuple[str, ...], Field(min_length=1)]
    """Files, glob patterns, or a `datasets` folder: .jsonl, .jsonl.gz, .jsonl.zst, .csv, .parquet. A hub dataset is
    saved to such a folder first."""
    domain: KnownDomain | None = None
    """Domain of rows that do not name one."""
    fields: FieldMap = FieldMap()
    """Names of the columns."""
    answer_pattern: str | None = None
    """Held-out only: a regular expression whose first group is the gold answer within the column."""
    number_tolerance: Annotated[float, Field(ge=0.0, lt=1.0)] | None = None
    """Held-out coding only: how far numbers may lie from those expected, relative or absolute, in tests given as inputs
    and outputs; null compares them as they are written."""
    limit: Positive | None = None
    """At most this many rows are used; null means all."""


class NanoSource(Section):
    """Synthetic problems of the embedded model's generator (training uses the questions only)."""

    type: Literal["nano"] = "nano"
    count: Positive
    """Problems per domain."""
    seed: int = 0
    """Generator seed."""
    levels: tuple[int, ...] = (1, 2, 3)
    """Difficulty levels, 1 (easy) to 4."""
    domains: tuple[Literal["math", "science", "coding"], ...] = ("math", "science", "coding")
    """Domains to generate problems of."""


class ArithmeticSource(Section):
    """Sums that the scripted policy can solve: for trying the loop without a model."""

    type: Literal["arithmetic"] = "arithmetic"
    count: Positive
    """Problems per domain."""
    seed: int = 0
    """Generator seed."""


_SOURCES = ("train", "development", "test")
_DOMAIN_MARK = "{domain}"

Source = Annotated[FilesSource | NanoSource | ArithmeticSource, Field(discriminator="type")]


class DedupSection(Section):
    """Duplicates among training prompts."""

    exact: bool = True
    """Drop prompts equal after normalisation."""
    near: Fraction = 0.9
    """MinHash Jaccard threshold above which a prompt is a near duplicate; 0 turns the check off."""
    numbers_matter: bool = True
    """Treat prompts whose numbers differ as different problems, however similar their words are."""


class LeakSection(Section):
    """The leak check between held-out problems and what is trained on: prompts and accepted completions."""

    action: Literal["refuse", "drop"] = "refuse"
    """`refuse` stops with a report of the pairs: before any work for training prompts, before the update for accepted
    completions; `drop` leaves both out, with a warning."""
    ngram: Annotated[int, Field(ge=0)] = 8
    """Words per n-gram for containment; 0 turns containment off."""
    containment: Fraction = 0.8
    """Share of a held-out problem's n-grams found in one training prompt that counts as a leak."""
    minhash: Fraction = 0.8
    """MinHash Jaccard threshold that counts as a leak; 0 turns it off."""
    numbers_matter: bool = True
    """Texts whose numbers differ are not leaks of each other."""


class DataSection(Section):
    """Training prompts and held-out problems."""

    domain: KnownDomain | None = None
    """One domain for the whole job: the domain of file rows that name none, and the value of `{domain}` in `job.name`
    and in the sources' `paths`. One override then makes a math, a science or a coding job of one file. null leaves the
    domain to each source."""
    train: Source
    """Unlabeled prompts."""
    development: Source
    """Held-out problems that decide when to stop and which round is best."""
    test: Source | None = None
    """Held-out problems evaluated once for the base and once for the best round; null skips that."""
    prompts_per_round: Positive | None = None
    """Prompts of a round, drawn without repetition until all were used; null takes all prompts in every round."""
    dedup: DedupSection = DedupSection()
    """Duplicates among training prompts."""
    leak: LeakSection = LeakSection()
    """Held-out problems found in training data."""


def fill_in_domain(data: Any) -> Any:
    """Plain configuration data with `data.domain` put where the sources and the job's name leave it open.

    Raises:
        ValueError: `{domain}` is used, and there is no `data.domain`.
    """
    if not isinstance(data, dict) or not isinstance(section := data.get("data"), dict):
        return data
    domain, job = section.get("domain"), data.get("job")
    section = {key: _of_domain(value, domain) if key in _SOURCES else value for key, value in section.items()}
    filled = {**data, "data": section}
    if isinstance(job, dict) and isinstance(name := job.get("name"), str):
        filled["job"] = {**job, "name": _replaced(name, domain)}
    return filled


def _of_domain(source: Any, domain: object) -> Any:
    """A source of files with its domain and the places of its files filled in; any other as it is."""
    if not isinstance(source, dict) or source.get("type") != "files":
        return source
    paths = source.get("paths")
    if isinstance(paths, list | tuple):
        source = {**source, "paths": [_replaced(path, domain) for path in paths]}
    return source if domain is None or source.get("domain") is not None else {**source, "domain": domain}


def _replaced(text: Any, domain: object) -> Any:
    if not isinstance(text, str) or _DOMAIN_MARK not in text:
        return text
    if domain is None:
        raise ValueError(f"data.domain: {text!r} asks for it; set it to one of {', '.join(DOMAINS.names())}")
    return text.replace(_DOMAIN_MARK, str(domain))

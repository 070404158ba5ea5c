"""Read prompts and held-out problems from the configured sources."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path

from envs.problems import arithmetic
from envs.problems import nano as nano_problems
from envs.problems.arithmetic import Split
from envs.prompts import PromptPool, build_pool, files_digest, read_problems, read_prompts
from svd_loop.config import Config
from svd_loop.config.data import ArithmeticSource, FilesSource, NanoSource, Source
from svd_loop.contracts import Problem, Prompt
from svd_loop.errors import ConfigError
from svd_loop.support.progress import progress


def problems_of(source: Source, split: Split) -> list[Problem]:
    """Problems with gold; `split` (train, development or test) is the share a generator draws from.

    Raises:
        ConfigError: a generator holds fewer different problems than asked for.
        DataError: a file or row cannot be used.
    """
    match source:
        case FilesSource():
            return read_problems(source)
        case ArithmeticSource():
            return arithmetic.generate(split, source.count, source.seed)
        case NanoSource():
            return [problem for domain in source.domains for problem in _nano(source, domain, split)]


def prompts_of(source: Source) -> Iterable[Prompt]:
    """Unlabeled training prompts; answers known to a generator are dropped here."""
    if isinstance(source, FilesSource):
        return read_prompts(source)
    return (problem.as_prompt() for problem in problems_of(source, "train"))


def held_out_sources(config: Config) -> dict[Split, Source]:
    """Sources of the held-out problems by split, without splits that are not configured."""
    sources: dict[Split, Source | None] = {"development": config.data.development, "test": config.data.test}
    return {split: source for split, source in sources.items() if source is not None}


def held_out(config: Config) -> dict[str, list[Problem]]:
    """The held-out problems by split."""
    return {split: problems_of(source, split) for split, source in held_out_sources(config).items()}


def build_prompts(
    config: Config, problems: Iterable[Problem], path: Path, too_long: Callable[[str], bool] | None, fit_digest: str
) -> PromptPool:
    """Build the prompt pool: deduplicated, checked against the held-out problems, stored at `path`.

    Args:
        config: the job.
        problems: all held-out problems.
        path: the pool's file; reused when nothing that made it has changed.
        too_long: whether a prompt does not fit the context.
        fit_digest: digest of everything that `too_long` depends on.

    Raises:
        DataError: a row cannot be used, or none is left.
        LeakError: held-out problems were found and the configuration says to refuse.
    """
    source = config.data.train
    with progress("reading prompts", 0) as bar:
        return build_pool(
            prompts_of(source),
            list(problems),
            path,
            dedup=config.data.dedup,
            leak=config.data.leak,
            too_long=too_long,
            digest=_digest(source, fit_digest),
            progress=bar.advance,
        )


def source_label(source: Source) -> str:
    """A text that describes the source of a split."""
    if isinstance(source, FilesSource):
        return ", ".join(source.paths)
    return f"{source.type} generator, seed {source.seed}"


def _nano(source: NanoSource, domain: nano_problems.Domain, split: Split) -> list[Problem]:
    try:
        found = nano_problems.generate(domain, split, source.count, source.seed, source.levels)
    except ValueError as error:
        raise ConfigError(f"data: type nano: {error}; lower its count or add levels") from None
    return [Problem(item.id, item.question, domain, item.answer, item.tests) for item in found]


def _digest(source: Source, fit_digest: str) -> str:
    files = files_digest(source.paths) if isinstance(source, FilesSource) else ""
    return hashlib.sha256(f"{source.model_dump_json()}\x1f{files}\x1f{fit_digest}".encode()).hexdigest()

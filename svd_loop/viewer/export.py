"""Write the pages of a job to files that can be shared: one HTML file, or a folder of pages.

A bundle needs no server and no network, and is bounded: the first prompts of every round by id (ids are hashes, so that
is a sample), fewer if the files would be too large. It says what it leaves out. Held-out answers are never in it,
because a bundle travels and held-out problems must not.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from svd_loop.errors import ConfigError
from svd_loop.ledger.browse import find_prompts
from svd_loop.report.templating import inlined
from svd_loop.support.atomic import write_atomically
from svd_loop.viewer.app import static_file
from svd_loop.viewer.links import FileLinks, prompt_name
from svd_loop.viewer.pages import Pages
from svd_loop.viewer.source import JobSource

LARGEST = 24_000_000
"""Characters of a bundle; with more, it is made again with half of the prompts."""
STYLES = ("style.css", "viewer.css", "code.css")
SCRIPTS = ("theme.js", "viewer.js")


@dataclass(frozen=True, slots=True)
class Written:
    """A bundle: where it is, the prompts in it, and the played prompts that are not."""

    path: Path
    prompts: int
    left_out: int

    @property
    def told(self) -> str:
        """A line for people."""
        rest = f"{self.left_out:,} other prompts (--samples) and the held-out answers are left out"
        return f"{self.path}: {self.prompts:,} prompts with candidates and votes; {rest}"


def export_pages(folder: Path, target: Path, *, samples: int = 100) -> Written:
    """Write a bundle of the job in `folder`.

    Args:
        folder: the job's folder.
        target: `*.html` is one file; anything else is a folder, new or empty.
        samples: prompts of each round, at most.

    Raises:
        ConfigError: the target cannot be written.
        LedgerError: there is no such job.
    """
    single = target.suffix.lower() in (".html", ".htm")
    if target.is_dir() if single else target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ConfigError(f"--export {target}: {'is a folder' if single else 'is not an empty folder'}; name another")
    with closing(JobSource(folder)) as source:
        bundle = _Bundle(source, samples, single=single)
        files = dict(bundle.files())
        while sum(map(len, files.values())) > LARGEST and samples > 1:
            samples //= 2
            bundle = _Bundle(source, samples, single=single)
            files = dict(bundle.files())
    try:
        if single:
            write_atomically(target, _encoded(files["index"]))
        else:
            _write_folder(target, files)
    except OSError as error:
        raise ConfigError(f"--export {target}: cannot be written: {error.strerror or error}") from None
    return Written(target, bundle.prompts, bundle.left_out)


class _Bundle:
    """The chosen prompts of a job, and their pages."""

    def __init__(self, source: JobSource, samples: int, *, single: bool) -> None:
        self._links = FileLinks(single=single)
        self._pages = Pages(source, self._links, live=False)
        self._rounds = source.overview().rounds
        self._chosen = {
            view.number: [one.id for one in find_prompts(source.reader, view.number, limit=samples).prompts]
            for view in self._rounds
        }
        self.prompts = sum(map(len, self._chosen.values()))
        self.left_out = sum(view.record.prompts for view in self._rounds) - self.prompts
        self._single = single

    def files(self) -> Iterator[tuple[str, str]]:
        """The pages by name."""
        for number, ids in self._chosen.items():
            self._links.written |= {prompt_name(number, id) for id in ids}
            self._links.written |= {f"round-{number}-prompts"} if ids else set()
        self._links.written |= {f"round-{view.number}-canaries" for view in self._rounds if view.canaries}
        if self._single:
            style, script = (
                [inlined(static_file(name) or "", tag) for name in names]
                for tag, names in (("style", STYLES), ("script", SCRIPTS))
            )
            yield "index", self._pages.one_file(self._chosen, self.left_out, style, script)
            return
        yield "index", self._pages.job()
        for view in self._rounds:
            number, ids = view.number, self._chosen[view.number]
            yield f"round-{number}", self._pages.round(number)
            if ids:
                yield f"round-{number}-prompts", self._pages.listed(number, ids)
            if view.canaries:
                yield f"round-{number}-canaries", self._pages.canaries(number)
            for id in ids:
                yield prompt_name(number, id), self._pages.prompt(number, id, {})


def _write_folder(target: Path, files: dict[str, str]) -> None:
    """Write the pages and what they load; the folder appears when it is complete."""
    part = target.absolute().with_name(f".{target.absolute().name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    for name, text in files.items():
        (part / f"{name}.html").write_bytes(_encoded(text))
    for name in (*STYLES, *SCRIPTS, "icon.svg"):
        (part / name).write_bytes(_encoded(static_file(name) or ""))
    if target.is_dir():
        target.rmdir()
    part.rename(target)


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "replace")

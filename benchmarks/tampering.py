"""Flips bits in the files of a finished job, and edits them, and looks at what the commands make of it.

    python -m benchmarks.tampering [--flips 1000] [--edits 200] [--seed 0]

Each change is made in a copy of a small scripted job. The copy is reported, explained and resumed in this process, and
counts as

- `named`: one of them ends with an `SvdError` whose text names the changed file;
- `harmless`: all of them say what they say of the job itself (scores, accepted rows, votes, best version, stop);
- `unnamed`: one of them ends with an `SvdError` that does not say which file is at fault;
- `silent`: one of them says something else without a word;
- `traceback`: one of them raises anything but an `SvdError`, or takes longer than a minute.

Exit code 1 if any is unnamed, silent or a traceback. The report's drawings are left out: they take most of the time and
show what the report says as numbers.
"""

from __future__ import annotations

import argparse
import json
import logging
import random
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from unittest import mock

from svd_loop.config import Config
from svd_loop.contracts import JobPaths
from svd_loop.errors import SvdError
from svd_loop.jobs import report_job, run_job
from svd_loop.ledger import LedgerReader
from svd_loop.promotion.lineage import explain
from svd_loop.report import figures
from tests.svd_loop.jobs_support import small

LEFT_OUT = {"lock", "lock.owner", "ledger.sqlite-shm", "ledger.sqlite-wal"}
"""Empty files, and those that live as long as a process."""

SETTINGS = (
    "data.train.count=6",
    "data.development.count=3",
    "data.prompts_per_round=6",
    "sampling.n=3",
    "cascade.votes=1",
    "evaluation.samples=1",
    "evaluation.pass_at=[1]",
)

EDITS: tuple[str, ...] = (
    "DELETE FROM accepted_rows WHERE round = {round} AND place = {place}",
    "DELETE FROM candidates WHERE round = {round} AND candidate = {place}",
    "DELETE FROM votes WHERE round = {round} AND place = {place}",
    "DELETE FROM verdicts WHERE round = {round} AND candidate = {place}",
    "DELETE FROM evaluations WHERE round = {round} AND place = {place}",
    "DELETE FROM updates WHERE round = {round}",
    "DELETE FROM rounds WHERE round = {round}",
    "DELETE FROM stops",
    "DELETE FROM prompts WHERE rowid % 7 = {place}",
    "DELETE FROM answers WHERE seq % 97 = {number}",
    "DELETE FROM speakers WHERE id = {place}",
    "DELETE FROM contents WHERE id % 53 = {number}",
    "DELETE FROM dictionaries WHERE id = 1",
    "DELETE FROM batches WHERE id % 5 = {place}",
    "DELETE FROM sessions",
    "DELETE FROM meta WHERE name = (SELECT name FROM meta ORDER BY name LIMIT 1 OFFSET {place})",
    "UPDATE votes SET value = CASE value WHEN 'yes' THEN 'no' ELSE 'yes' END WHERE round = {round} AND place = {place}",
    "UPDATE votes SET text = (SELECT max(id) FROM contents) WHERE round = {round} AND place = {place}",
    "UPDATE verdicts SET accepted = 1 - accepted WHERE round = {round} AND candidate = {place}",
    "UPDATE verdicts SET stage = 'factuality', rejection = 'vote' WHERE round = {round} AND candidate = {place}",
    "UPDATE candidates SET selected = 1 - selected WHERE round = {round} AND candidate = {place}",
    "UPDATE evaluations SET correct = 2 - correct WHERE round = {round} AND place = {place}",
    "UPDATE estimates SET value = 0.{number} WHERE round = {round}",
    "UPDATE rounds SET accepted_prompts = accepted_prompts + 1 WHERE round = {round}",
    "UPDATE rounds SET metrics = '{{}}', figures = NULL WHERE round = {round}",
    "UPDATE rounds SET digests = NULL, digest = NULL",
    "UPDATE rounds SET fingerprint = 'ff' WHERE round = {round}",
    "UPDATE accepted_rows SET supervised_from = {number} WHERE round = {round} AND place = {place}",
    "UPDATE accepted_rows SET origin_round = 0 WHERE round = {round} AND place = {place}",
    "UPDATE updates SET steps = {number} WHERE round = {round}",
    "UPDATE answers SET output_tokens = {number} + 1000 WHERE seq % 97 = {number}",
    "UPDATE answers SET finish_reason = 'length' WHERE seq % 97 = {number}",
    "UPDATE answers SET text = text + 1 WHERE seq % 97 = {number}",
    "UPDATE answers SET key = randomblob(32) WHERE seq % 97 = {number}",
    "UPDATE stops SET best_round = {place} % 2, reason = 'plateau'",
    "UPDATE prompts SET domain = 'science' WHERE rowid % 7 = {place}",
    "UPDATE sessions SET seconds = 1e9",
    "UPDATE meta SET value = replace(value, '0', '1') WHERE name = 'config'",
    "UPDATE meta SET value = 'another' WHERE name = 'name'",
    "UPDATE rounds SET round = 9 WHERE round = 1; UPDATE rounds SET round = 1 WHERE round = 2;"
    "UPDATE rounds SET round = 2 WHERE round = 9",
    "CREATE TABLE t AS SELECT data, digest FROM contents WHERE id = {number} + 1; UPDATE contents SET digest = x'00'"
    " WHERE id = {number} + 1; UPDATE contents SET digest = t.digest FROM t WHERE id = {number} + 2",
)
"""Statements on `ledger.sqlite`; `{round}` is 0 to 2, `{place}` 0 to 3, `{number}` 0 to 96."""
POOL_EDITS = (
    "DELETE FROM prompts WHERE position = {number} % 6",
    "UPDATE prompts SET text = text || ' ' WHERE position = {number} % 6",
    "UPDATE prompts SET id = 'x' || id WHERE position = {number} % 6",
    "UPDATE prompts SET domain = 'science' WHERE position = {number} % 6",
    "UPDATE prompts SET position = -1 WHERE position = 2; UPDATE prompts SET position = 2 WHERE position = 4;"
    "UPDATE prompts SET position = 4 WHERE position = -1",
    "UPDATE meta SET value = replace(value, '6', '5') WHERE key = 'report'",
    "UPDATE meta SET value = 'x' WHERE key = 'key'",
)
"""The same for `prompts.sqlite`."""


class Job:
    """A finished job, and what the commands say of it."""

    def __init__(self, root: Path) -> None:
        self.root = root / "sound"
        run_job(self.config(self.root))
        with LedgerReader.open_for_reading(self.config(self.root).job.paths.folder) as reader:
            self.prompt = reader.accepted_rows()[0].prompt_id
        played = root / "played"
        shutil.copytree(self.root, played)
        self.said = [repr(command(played)).replace(str(played), "") for command in self.commands]
        shutil.rmtree(played)

    @staticmethod
    def config(root: Path, *more: str) -> Config:
        """The job below `root`."""
        return small(root, *SETTINGS, *more)

    @property
    def commands(self) -> Sequence[Callable[[Path], object]]:
        """What is tried, in this order."""
        return (self.report, self.explain, self.resume, self.go_on)

    def report(self, root: Path) -> object:
        """All that the report tells."""
        state, _ = report_job("scripted", root)
        with LedgerReader.open_for_reading(self.config(root).job.paths.folder) as reader:
            result = reader.result()
            return state, result and (result.stop, result.best, result.test, result.notes), reader.hours() < 1

    def explain(self, root: Path) -> object:
        """All that is known of one accepted row."""
        return explain("scripted", root, self.prompt)

    def resume(self, root: Path) -> object:
        """The end, its history and rows: without the times, which differ when a round is played again."""
        return self._outcome(self.config(root))

    def go_on(self, root: Path) -> object:
        """One round more, which reads what the rounds before have left."""
        return self._outcome(self.config(root, "job.rounds=3"))

    @staticmethod
    def _outcome(config: Config) -> object:
        result = run_job(config)
        with LedgerReader.open_for_reading(config.job.paths.folder) as reader:
            rows = reader.accepted_rows()
        history = [(r.version, r.scores, r.accepted_prompts, r.prompts, r.rows, r.funnel) for r in result.history]
        return result.stop, result.best.version, history, rows

    def files(self) -> list[Path]:
        """Its files, relative to the root."""
        found = (path for path in self.root.rglob("*") if path.is_file() and path.name not in LEFT_OUT)
        return sorted(path.relative_to(self.root) for path in found)

    def outcome(self, root: Path, file: str) -> tuple[str, str]:
        """What the commands make of a copy in which a file was changed, and what they said."""
        for command, said in zip(self.commands, self.said, strict=True):
            try:
                with _time_limit(60):
                    now = repr(command(root)).replace(str(root), "")  # as text, since NaN is not equal to itself
            except SvdError as error:
                return "named" if file in str(error) else "unnamed", f"{command.__name__}: {error}"
            except Exception as error:
                return "traceback", f"{command.__name__}: {type(error).__name__}: {error}"
            if now != said:
                at = next((i for i, (a, b) in enumerate(zip(now, said, strict=False)) if a != b), len(said))
                return "silent", f"{command.__name__}: {said[at - 80 : at + 80]}\n -> {now[at - 80 : at + 80]}"
        return "harmless", ""


Change = tuple[str, str, Callable[[Path], object]]
"""The kind of file, what is done to it, and the function that does it to a root."""


def flips(job: Job, count: int, generator: random.Random) -> Iterator[Change]:
    """Single bits: half of them in the ledger, the others evenly over the other files."""
    ledger = JobPaths(Path("jobs/scripted")).ledger
    others = [path for path in job.files() if path != ledger and (job.root / path).stat().st_size]
    for number in range(count):
        path = ledger if number % 2 else others[number // 2 % len(others)]
        bit = generator.randrange(8 * (job.root / path).stat().st_size)
        yield kind_of(path), f"{path}: bit {bit}", partial(flip, path=path, bit=bit)


def edits(job: Job, count: int, generator: random.Random) -> Iterator[Change]:
    """Every statement in turn, and between them files that are deleted, emptied, cut or exchanged."""
    paths = JobPaths(Path("jobs/scripted"))
    files = job.files()
    for number in range(count):
        values = {"round": generator.randrange(3), "place": generator.randrange(4), "number": generator.randrange(97)}
        turn, which = number % 5, number // 5
        if turn < 3:
            sql = EDITS[(3 * which + turn) % len(EDITS)].format(**values)
            yield "ledger.sqlite", sql, partial(execute, path=paths.ledger, sql=sql)
        elif turn == 3 and which % 2:
            sql = POOL_EDITS[which // 2 % len(POOL_EDITS)].format(**values)
            yield "prompts.sqlite", sql, partial(execute, path=paths.prompts, sql=sql)
        elif turn == 3:
            path = files[which // 2 % len(files)]
            size = generator.randrange((job.root / path).stat().st_size + 1)
            yield (
                kind_of(path),
                f"{path}: cut to {size} bytes",
                partial(cut, path=path, size=size),
            )
        elif which % 3:
            path = files[which % len(files)]
            yield kind_of(path), f"{path}: deleted", partial(delete, path=path)
        else:
            path = [file for file in files if file.suffix == ".json"][which // 3 % 7 % len(files)]
            digit = generator.randrange(10_000)
            yield kind_of(path), f"{path}: digit {digit}", partial(count_up, path=path, digit=digit)


def kind_of(path: Path) -> str:
    """The file's name, without the round."""
    return f"versions/{path.name}" if "versions" in path.parts else path.name


def flip(root: Path, path: Path, bit: int) -> None:
    """Turn one bit of a file around."""
    data = bytearray((root / path).read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    (root / path).write_bytes(data)


def cut(root: Path, path: Path, size: int) -> None:
    """Keep the first `size` bytes of a file."""
    (root / path).write_bytes((root / path).read_bytes()[:size])


def delete(root: Path, path: Path) -> None:
    """Remove a file."""
    (root / path).unlink()


def count_up(root: Path, path: Path, digit: int) -> None:
    """Add one to one of the digits in a text file."""
    text = (root / path).read_text()
    places = [place for place, letter in enumerate(text) if letter in "12345678"]
    if places:
        place = places[digit % len(places)]
        (root / path).write_text(f"{text[:place]}{int(text[place]) + 1}{text[place + 1 :]}")


def execute(root: Path, path: Path, sql: str) -> None:
    """Statements on a database; one that its constraints refuse changes nothing."""
    with closing(sqlite3.connect(root / path)) as connection:
        try:
            connection.executescript(sql)
        except sqlite3.IntegrityError:
            connection.rollback()


def tried(job: Job, change: Change, folder: Path) -> tuple[str, str]:
    """The outcome of one change, made in a copy of the job that is gone afterwards."""
    root = folder / "changed"
    shutil.copytree(job.root, root)
    try:
        change[2](root)
        with mock.patch.object(figures, "to_svg", lambda figure: ""):
            return job.outcome(root, Path(change[0]).name)
    finally:
        shutil.rmtree(root)


@contextmanager
def _time_limit(seconds: int) -> Iterator[None]:
    """Raise `TimeoutError` in a block that takes longer."""

    def late(number: int, frame: object) -> None:
        raise TimeoutError(f"longer than {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flips", type=int, default=1000)
    parser.add_argument("--edits", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    logging.disable(logging.WARNING)

    start, bad = time.process_time(), 0
    counts: defaultdict[str, dict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
    generator = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as name:
        job = Job(Path(name))
        made = {"flips": flips(job, options.flips, generator), "edits": edits(job, options.edits, generator)}
        for what, changes in made.items():
            for change in changes:
                outcome, said = tried(job, change, Path(name))
                counts[what][change[0]][outcome] += 1
                if outcome not in ("named", "harmless"):
                    bad += 1
                    sys.stderr.write(f"{outcome}: {change[1]}\n    {said[:600]}\n")
    totals = {what: dict(sum(kinds.values(), Counter[str]())) for what, kinds in counts.items()}
    report = {"total": totals, "files": counts, "cpu_seconds": round(time.process_time() - start)}
    sys.stdout.write(json.dumps(report, indent=2) + "\n")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()

"""One job with hostile texts, and one server that shows it, for all tests of the viewer."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import uvicorn

from svd_loop.contracts import JobResult, StopReason
from svd_loop.ledger import Ledger
from svd_loop.viewer.app import make_app
from svd_loop.viewer.links import ServerLinks
from svd_loop.viewer.pages import Pages
from svd_loop.viewer.source import JobSource
from tests.svd_loop.ledger.judged_rounds import commit_judged
from tests.svd_loop.ledger.samples import commit_rounds, config, record

HOSTILE = {
    "script": "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">",
    "long-line": "x" * 60_000,
    "bidi": "the answer is \u202e31\u202c and \u2066nothing\u2069 \u200b else",
    "ansi": "\x1b[31mred\x1b[0m \x07 bell",
    "latex": r"$\text{<script>document.title='owned'</script>}$ $\href{javascript:alert(1)}{x}$ $x=\frac{1}{2}$",
    "code": "```python\ndef f(x):\n    return x < 2\n```",
    "bomb": "$" + "{" * 4000 + "$$" * 4000 + "\\left(" * 500 + "```" * 500 + "**" * 2000,
}
PROMPTS = {
    **{name: ["yyyy"] for name in HOSTILE},
    "mixed": ["yn", "yyyy", "-"],
    "split": ["yyyn"],
    "odd": ["i"],
    **{f"plain-{number:03d}": ["n"] for number in range(60)},
}
"""By prompt the votes of its candidates; more than a page of them."""


@pytest.fixture(scope="session")
def job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished job of two rounds, whose first has the hostile texts."""
    folder = tmp_path_factory.mktemp("root") / "jobs" / "sample"
    folder.mkdir(parents=True)
    with Ledger.open(folder, config()) as ledger:
        commit_rounds(ledger, 0)
        commit_judged(ledger, 1, PROMPTS, texts=HOSTILE, words="</div><b>the judge", domains={"odd": "science"})
        commit_judged(ledger, 2, {"mixed": ["yyyy"]})
        history = (record(0), record(1), record(2))
        ledger.commit_stop(JobResult("sample", StopReason.PLATEAU, history[2], history))
    return folder


@pytest.fixture(scope="session")
def pages(job: Path) -> Iterator[Pages]:
    source = JobSource(job)
    yield Pages(source, ServerLinks(), live=True)
    source.close()


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """The address of a viewer that runs while the block does."""
    server = uvicorn.Server(uvicorn.Config(make_app(folder), port=0, log_level="error", lifespan="on"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join(timeout=10)


@pytest.fixture(scope="session")
def served(job: Path) -> Iterator[str]:
    """The address of a running viewer of the job; its ledger must not be changed by it."""
    ledger = job / "ledger.sqlite"
    before = hashlib.sha256(ledger.read_bytes()).hexdigest()
    with serving(job) as address:
        yield address
    assert hashlib.sha256(ledger.read_bytes()).hexdigest() == before

"""The web application: addresses to pages, and the rules that keep a viewer of hostile text harmless.

- Only GET and HEAD; nothing here writes.
- A strict Content-Security-Policy: scripts and styles from this server alone, nothing inline, no request elsewhere.
- The Host header must name this machine, so that a foreign site cannot read the pages through DNS that it controls.
- All pages are made on one thread, which owns the ledger's connection; a slow page never blocks the event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from html import escape
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from svd_loop.errors import ConfigError, SvdError
from svd_loop.report.templating import STATIC as REPORT_STATIC
from svd_loop.viewer.links import ServerLinks
from svd_loop.viewer.pages import NoSuchPageError, Pages
from svd_loop.viewer.rich_text import stylesheet
from svd_loop.viewer.source import JobSource, SampleOutcomes, no_outcomes

STATIC = Path(__file__).with_name("static")
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}
_KINDS = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


class Guard:
    """Adds the security headers to every answer, and refuses hosts that are not this machine.

    Args:
        app: the application.
        hosts: names allowed besides `localhost`; an address in place of a name is always allowed, because only names
            can be made to point elsewhere.
    """

    def __init__(self, app: ASGIApp, hosts: frozenset[str]) -> None:
        self._app = app
        self._hosts = {"localhost", *hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def guarded(message: Any) -> None:
            if message["type"] == "http.response.start":
                own = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
                message = {**message, "headers": [*message["headers"], *own]}
            await send(message)

        host = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"host"), "")
        if self._allows(host):
            await self._app(scope, receive, guarded)
        else:
            told = f"host {host!r} is not this machine; start the viewer with --host to allow a name\n"
            await PlainTextResponse(told, 421)(scope, receive, guarded)

    def _allows(self, host: str) -> bool:
        name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
        if name.lower() in self._hosts:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True


class Viewer:
    """The application's state: the pages, and the one thread that makes them."""

    def __init__(self, folder: Path, outcomes: SampleOutcomes) -> None:
        self._folder, self._outcomes = folder, outcomes
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ledger")
        self._pages: Pages | None = None

    @contextlib.asynccontextmanager
    async def lifespan(self, app: Starlette) -> AsyncIterator[None]:
        """Open the ledger on its thread, and close it there."""
        await self.on_thread(lambda pages: None)
        yield
        await self.on_thread(lambda pages: pages.source.close())
        self._thread.shutdown()

    async def on_thread(self, work: Callable[[Pages], Any]) -> Any:
        """Return what `work` makes of the pages."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, lambda: work(self._opened()))

    async def page(self, work: Callable[[Pages], str]) -> HTMLResponse:
        """Answer with a page, or with one that says why there is none."""

        def made(pages: Pages) -> tuple[int, str]:
            try:
                return 200, work(pages)
            except NoSuchPageError as error:
                return 404, pages.error("No such page", str(error))
            except ConfigError as error:
                return 400, pages.error("Not a filter", str(error))
            except SvdError as error:
                return 500, pages.error("The ledger cannot be read", str(error))

        try:
            status, text = await self.on_thread(made)
        except SvdError as error:  # not even a page that says so can be made
            status, text = 500, f"<!doctype html><title>svd-loop</title><p>{escape(str(error))}</p>"
        return HTMLResponse(_encodable(text), status)

    def _opened(self) -> Pages:
        if self._pages is None:
            self._pages = Pages(JobSource(self._folder, self._outcomes), ServerLinks(), live=True)
        return self._pages


def make_app(folder: Path, *, outcomes: SampleOutcomes = no_outcomes, hosts: frozenset[str] = frozenset()) -> Starlette:
    """Return the application that shows the job in `folder`.

    Args:
        folder: the job's folder.
        outcomes: how samples of held-out problems are scored, if they can be.
        hosts: names of this machine that a browser may use, besides `localhost` and addresses.
    """
    viewer = Viewer(folder, outcomes)

    def served(path: str, make: Callable[[Pages, Mapping[str, Any], Mapping[str, str]], str]) -> Route:
        async def answer(request: Request) -> Response:
            parameters, query = request.path_params, dict(request.query_params)
            return await viewer.page(lambda pages: make(pages, parameters, query))

        return Route(path, answer, methods=["GET"])

    return Starlette(
        routes=[
            served("/", lambda pages, at, query: pages.job()),
            served("/round/{round:int}", lambda pages, at, query: pages.round(at["round"])),
            served("/round/{round:int}/prompts", lambda pages, at, query: pages.prompts(at["round"], query)),
            served(
                "/round/{round:int}/prompt/{id:path}",
                lambda pages, at, query: pages.prompt(at["round"], at["id"], query),
            ),
            served("/round/{round:int}/canaries", lambda pages, at, query: pages.canaries(at["round"])),
            served("/round/{round:int}/held-out", lambda pages, at, query: pages.held_out(at["round"], query)),
            served(
                "/round/{round:int}/held-out/{id:path}",
                lambda pages, at, query: pages.problem(at["round"], at["id"], query),
            ),
            served("/reply/{seq:int}", lambda pages, at, query: pages.call(at["seq"])),
            served("/replies", lambda pages, at, query: pages.newest()),
            Route("/find", _find(viewer), methods=["GET"]),
            Route("/pulse", _pulse(viewer), methods=["GET"]),
            Route("/static/{name}", _static, methods=["GET"]),
        ],
        middleware=[Middleware(Guard, hosts=hosts)],
        lifespan=viewer.lifespan,
    )


def _find(viewer: Viewer) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        prefix = request.query_params.get("id", "").strip()
        to, page = await viewer.on_thread(lambda pages: pages.found(prefix))
        return RedirectResponse(to, 303) if to else HTMLResponse(_encodable(page))

    return answer


def _pulse(viewer: Viewer) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        pulse = await viewer.on_thread(lambda pages: pages.source.pulse())
        return JSONResponse({**asdict(pulse), "working": pulse.working})

    return answer


async def _static(request: Request) -> Response:
    name = request.path_params["name"]
    text = static_file(name)
    if text is None:
        return PlainTextResponse("no such file\n", 404)
    return Response(text, media_type=_KINDS[Path(name).suffix])


def static_file(name: str) -> str | None:
    """Return a style sheet or script by its name, or None."""
    if name == "code.css":
        return stylesheet()
    known = {file.name: file for folder in (STATIC, REPORT_STATIC) for file in folder.iterdir()}
    return known[name].read_text(encoding="utf-8") if name in known else None


def _encodable(text: str) -> bytes:
    """The page as UTF-8; a lone surrogate, which the ledger keeps, becomes a question mark."""
    return text.encode("utf-8", "replace")

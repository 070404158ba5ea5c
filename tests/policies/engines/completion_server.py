"""A small server that speaks vLLM's protocol, for the faults a real one cannot be made to have on command.

It runs on a thread of its own. What it "samples" is a fixed function of prompt and seed, and a log probability one of
the token and of the weights it holds, so that two servers agree and other weights can be seen.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

from aiohttp import web

STOP = 7
REFUSED = 400


def sampled(prompt: list[int], seed: int, max_tokens: int) -> tuple[list[int], str]:
    """Token ids and finish reason."""
    length = seed % 5 + 1
    ids = [(sum(prompt) + seed + place) % 90 + 10 for place in range(length)] + [STOP]
    return (ids, "stop") if len(ids) <= max_tokens else (ids[:max_tokens], "length")


def logprob(token: int, weights: str) -> float:
    """In nats."""
    return -(token % 50) / 10.0 - (0.5 * (sum(weights.encode()) % 7 + 1) if weights != "base" else 0.0)


def reference(weights: str) -> Callable[[Any, float], list[list[float]]]:
    """What transformers would make of these weights."""
    return lambda probed, seconds: [[logprob(token, weights) for token in ids[1:]] for ids in probed["prompts"]]


def error(status: int, message: str, headers: dict[str, str] | None = None) -> web.Response:
    return web.json_response({"error": {"message": message, "code": status}}, status=status, headers=headers)


class CompletionServer:
    """Starts at once, on a free port; `start` and `stop` may be repeated.

    Attributes:
        asked: bodies of the completion requests for rows (not for the probe), in the order they came.
        calls: how often each path was asked.
        faults: for the next requests of rows, each a function of the body that gives a response or None.
        change: applied to every answer to a row.
        hold: while cleared, rows are not answered.
    """

    def __init__(
        self, *, model: str = "base", longest: int = 512, key: str | None = None, lora: bool = True, dev: bool = True
    ) -> None:
        self.model, self.longest, self.key, self.lora, self.dev = model, longest, key, lora, dev
        self.asked: list[dict[str, Any]] = []
        self.calls: Counter[str] = Counter()
        self.faults: deque[Callable[[dict[str, Any]], web.Response | None]] = deque()
        self.change: Callable[[dict[str, Any]], None] = lambda answer: None
        self.always: Callable[[dict[str, Any]], web.Response | None] = lambda body: None
        self.hold = threading.Event()
        self.hold.set()
        self.healthy = True
        self.weights = "base"
        self.weight_version = "default"
        self.adapters: dict[str, str] = {}
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._runner: web.AppRunner | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        self._call(self._start())

    def stop(self) -> None:
        """As a killed process: connections break, the port is closed, what was loaded is forgotten."""
        self._call(self._stop())

    def stop_soon(self) -> None:
        """The same, from within a handler."""
        self._loop.create_task(self._stop())

    def close(self) -> None:
        self.hold.set()
        self.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def _call(self, coroutine: Any) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)

    async def _start(self) -> None:
        app = web.Application(middlewares=[self._door])
        app.router.add_get("/health", self._health)
        app.router.add_get("/v1/models", self._models)
        app.router.add_post("/v1/completions", self._completions)
        if self.lora:
            app.router.add_post("/v1/load_lora_adapter", self._load)
            app.router.add_post("/v1/unload_lora_adapter", self._unload)
        if self.dev:
            app.router.add_get("/weight_info", self._weight_info)
            app.router.add_post("/collective_rpc", self._reload)
            app.router.add_post("/update_weight_version", self._name_weights)
            for path in ("/pause", "/resume", "/reset_prefix_cache"):
                app.router.add_post(path, self._done)
        self._runner = web.AppRunner(app, shutdown_timeout=0.0, handler_cancellation=True)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True).start()
        self.port = self._runner.addresses[0][1]

    async def _stop(self) -> None:
        runner, self._runner = self._runner, None
        self.adapters.clear()
        self.weights, self.weight_version = "base", "default"
        if runner is None:
            return
        for site in list(runner.sites):
            await site.stop()
        if runner.server is not None:
            for connection in list(runner.server.connections):
                if connection.transport is not None:
                    connection.transport.abort()
        await runner.cleanup()

    @web.middleware
    async def _door(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.calls[request.path] += 1
        if self.key and request.path.startswith("/v1") and request.headers.get("Authorization") != f"Bearer {self.key}":
            return error(401, "Unauthorized")
        response: web.StreamResponse = await handler(request)
        return response

    async def _health(self, request: web.Request) -> web.Response:
        while not self.healthy:
            await asyncio.sleep(0.01)
        return web.Response()

    async def _models(self, request: web.Request) -> web.Response:
        cards = [{"id": self.model, "parent": None, "max_model_len": self.longest}]
        return web.json_response({"data": cards + [{"id": name, "parent": self.model} for name in self.adapters]})

    async def _completions(self, request: web.Request) -> web.Response:
        body = await request.json()
        if body["model"] != self.model and body["model"] not in self.adapters:
            return error(404, f"The model `{body['model']}` does not exist.")
        answer: dict[str, Any] = {"token_ids": [5], "finish_reason": "length", "prompt_token_ids": body["prompt"]}
        found = {"choices": [answer], "usage": {"prompt_tokens_details": {"cached_tokens": 1}}}
        if wanted := body.get("logprob_token_ids"):
            weights = self.adapters.get(body["model"], self.weights)
            answer["logprobs"] = {"top_logprobs": [{f"token_id:{token}": logprob(token, weights) for token in wanted}]}
        elif "seed" in body:
            self.asked.append(body)
            fault = self.faults.popleft()(body) if self.faults else self.always(body)
            if fault is not None:
                return fault
            while not self.hold.is_set():
                await asyncio.sleep(0.005)
            answer["token_ids"], answer["finish_reason"] = sampled(body["prompt"], body["seed"], body["max_tokens"])
        self.change(answer)
        return web.json_response(found)

    async def _load(self, request: web.Request) -> web.Response:
        body = await request.json()
        if not body["lora_name"]:
            return error(400, "Both 'lora_name' and 'lora_path' must be provided.")
        if body["lora_name"] in self.adapters:
            return error(400, f"The lora adapter '{body['lora_name']}' has already been loaded.")
        if "nowhere" in body["lora_path"]:
            return error(404, f"Loading lora failed: No adapter found for {body['lora_path']}")
        if "broken" in body["lora_path"]:
            return error(500, "LoRA rank 64 is greater than max_lora_rank 16.")
        self.adapters[body["lora_name"]] = body["lora_path"].rpartition("/")[2]
        return web.Response(text="Success")

    async def _unload(self, request: web.Request) -> web.Response:
        self.adapters.pop((await request.json())["lora_name"], None)
        return web.Response(text="Success")

    async def _weight_info(self, request: web.Request) -> web.Response:
        return web.json_response({"weight_version": self.weight_version})

    async def _reload(self, request: web.Request) -> web.Response:
        self.weights = (await request.json())["kwargs"]["weights_path"].rpartition("/")[2]
        return web.json_response({"results": [None]})

    async def _name_weights(self, request: web.Request) -> web.Response:
        self.weight_version = (await request.json())["new_version"]
        return web.json_response({"success": True})

    async def _done(self, request: web.Request) -> web.Response:
        return web.json_response({})

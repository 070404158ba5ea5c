"""A server that follows an alias: it answers with the champion, and switches to a new one when it is loaded.

    MLFLOW_TRACKING_URI=http://registry:5000 python serve_champion.py NAME --port 8080
    curl -d '{"question": "What is 17 + 25?"}' localhost:8080/answer

A new champion is loaded while the old one still answers: no request waits or fails, but during that time the memory of
both is needed. If a champion cannot be loaded or the registry does not answer, nothing changes. One request is answered
at a time: this is an example of following an alias, not of throughput. It needs the packages listed in the model's
`python_env.yaml` and not svd-loop.
"""

from __future__ import annotations

import argparse
import json
import logging
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import mlflow
from mlflow import MlflowClient

log = logging.getLogger("serve_champion")


@dataclass(frozen=True)
class Served:
    """A version that is ready to answer."""

    number: str
    model: Any


class Champion:
    """The version behind an alias, loaded."""

    def __init__(self, name: str, alias: str = "champion") -> None:
        self._name, self._alias = name, alias
        self._client = MlflowClient()
        self._one_at_a_time = threading.Lock()
        self.served = self._load(self._current())

    def follow(self, seconds: float, stop: threading.Event) -> None:
        """Check at this interval whether the alias points to another version, until `stop` is set."""
        while not stop.wait(seconds):
            try:
                if (number := self._current()) != self.served.number:
                    self.served = self._load(number)  # one assignment: a request sees the old one or the new one
            except Exception:
                log.exception("%s version %s continues to answer", self._name, self.served.number)

    def answer(self, question: dict[str, Any]) -> dict[str, Any]:
        """Answer with the version that is in use when the request arrives."""
        served = self.served
        with self._one_at_a_time:
            (answer,) = served.model.predict(question).to_dict(orient="records")
        return {**answer, "champion": served.number}

    def _current(self) -> str:
        return str(self._client.get_model_version_by_alias(self._name, self._alias).version)

    def _load(self, number: str) -> Served:
        model = mlflow.pyfunc.load_model(f"models:/{self._name}/{number}")
        log.warning("%s version %s answers", self._name, number)
        return Served(number, model)


def make_server(champion: Champion, port: int) -> ThreadingHTTPServer:
    """`POST /answer` takes the model's input; `GET` returns the version that answers."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._reply(200, {"champion": champion.served.number})

        def do_POST(self) -> None:
            try:
                question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                self._reply(200, champion.answer(question))
            except Exception as error:
                self._reply(400, {"error": str(error)})

        def _reply(self, status: int, content: dict[str, Any]) -> None:
            body = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    return ThreadingHTTPServer(("127.0.0.1", port), Handler)


def main() -> None:
    """Serve until stopped."""
    parser = argparse.ArgumentParser(description="Serve a registered model's champion, whichever version that is.")
    parser.add_argument("name")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--every", type=float, default=30.0, help="seconds between two looks at the alias")
    arguments = parser.parse_args()
    champion = Champion(arguments.name)
    threading.Thread(target=champion.follow, args=(arguments.every, threading.Event()), daemon=True).start()
    make_server(champion, arguments.port).serve_forever()


if __name__ == "__main__":
    main()

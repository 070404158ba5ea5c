"""The program that `policies.engines.vllm` runs: the only module that imports vLLM.

It answers `start` once, then any number of `generate` and `stream`, until the pipe ends. Everything that crosses the
pipe is plain data, so that neither side needs the other's libraries. After `stream` come any number of `put` and `drop`
while rows run, which are sent back as `finished` when they are; `end` aborts the others, and `ended` is its answer.
"""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, TypedDict, cast

from svd_loop.support.child_process import converse

if TYPE_CHECKING:
    from vllm import LLM, SamplingParams
    from vllm.lora.request import LoRARequest
    from vllm.outputs import RequestOutput

_NOTICE_SECONDS = 0.2


class Probed(TypedDict):
    """A version and the prompts of the comparison; `adapter` is a name, a number and a folder, or None."""

    checkpoint: str
    dtype: str
    adapter: tuple[str, int, str] | None
    prompts: list[list[int]]


class Start(Probed):
    """The data of a `start` message.

    `engine` are arguments of `vllm.LLM`; `sampling` holds the common parameters; `reference` requests
    transformers' log probabilities of the prompts.
    """

    engine: dict[str, Any]
    sampling: dict[str, Any]
    repetition: dict[str, int] | None
    reference: bool


class Started(TypedDict):
    """The answer to `start`: log probabilities of all probe tokens but each prompt's first, by both libraries."""

    version: str
    served: list[list[float]]
    reference: list[list[float]] | None


Row = tuple[list[int], dict[str, Any], int]
"""Prompt ids, sampling parameters of this row, seed."""
Answer = tuple[list[int], str, int]
"""Sampled ids, vLLM's finish reason, and how many prompt tokens came from the prefix cache."""


class Server:
    """A loaded version.

    Args:
        connection: receives notices of finished rows.
        start: what to load, and how.
    """

    def __init__(self, connection: Connection, start: Start) -> None:
        from vllm import LLM
        from vllm.lora.request import LoRARequest
        from vllm.platforms import current_platform
        from vllm.sampling_params import RepetitionDetectionParams

        self._connection = connection
        self._sampling = dict(start["sampling"])
        if (repetition := start["repetition"]) is not None:
            self._sampling["repetition_detection"] = RepetitionDetectionParams(**repetition)
        self._adapter: LoRARequest | None = LoRARequest(*start["adapter"]) if start["adapter"] else None
        # After part of a prompt vLLM 0.32 rewinds the row's random generator, which raises on a CPU.
        whole_prompts = {"enable_chunked_prefill": False} if current_platform.is_cpu() else {}
        self._llm: LLM = LLM(start["checkpoint"], **start["engine"], **whole_prompts)

    def logprobs(self, prompts: list[list[int]]) -> list[list[float]]:
        """Log probability of each prompt's tokens from the second on; the prefix cache is empty afterwards.

        One request per token: vLLM 0.32 fails on `prompt_logprobs` with an adapter, and this uses the same path that
        answers are sampled, from a cached prefix on.
        """
        from vllm import SamplingParams

        places = [(ids[:place], ids[place]) for ids in prompts for place in range(1, len(ids))]
        outputs = self._llm.generate(
            [{"prompt_token_ids": before} for before, _ in places],
            [
                SamplingParams(max_tokens=1, temperature=0.0, logprob_token_ids=[token], detokenize=False)
                for _, token in places
            ],
            use_tqdm=False,
            lora_request=self._adapter,
        )
        self._llm.reset_prefix_cache()
        found = iter(
            output.outputs[0].logprobs[0][token].logprob for output, (_, token) in zip(outputs, places, strict=True)
        )
        return [[next(found) for _ in ids[1:]] for ids in prompts]

    def generate(self, rows: list[Row]) -> list[Answer]:
        """Answer all rows, in their order, in one call of vLLM."""
        outputs = self._llm.generate(
            [{"prompt_token_ids": ids} for ids, _, _ in rows],
            [self._parameters(sampling, seed) for _, sampling, seed in rows],
            use_tqdm=_row_counter(self._connection),
            lora_request=self._adapter,
        )
        return [_answer(output) for output in outputs]

    def stream(self) -> None:
        """Answer rows that come and go, each when it is finished, until the parent ends the stream."""
        engine, inbox = self._llm.llm_engine, SimpleQueue[tuple[str, Any] | None]()
        # In a thread: if this one waited with a full pipe for the parent, and the parent with a full one for this, both
        # would wait for ever.
        threading.Thread(target=_read, args=(self._connection, inbox), name="inbox", daemon=True).start()
        running: dict[str, int] = {}
        while True:
            for word, data in _messages(inbox, wait=not running):
                if word == "put":
                    running |= self._enqueue(data)
                    continue
                gone = set(running.values()).intersection(data) if word == "drop" else set(running.values())
                aborted = [name for name, number in running.items() if number in gone]
                engine.abort_request(aborted)
                for name in aborted:
                    del running[name]
                if word == "end":
                    self._connection.send(("ended", None))
                    return
            outputs = [cast("RequestOutput", output) for output in engine.step() if output.finished] if running else []
            if outputs:
                answers = [(running.pop(output.request_id), _answer(output)) for output in outputs]
                self._connection.send(("finished", answers))

    def _enqueue(self, rows: list[tuple[int, Row]]) -> dict[str, int]:
        """Queue rows in vLLM; returns their numbers by vLLM's names of the requests."""
        names = self._llm.enqueue(
            [{"prompt_token_ids": ids} for _, (ids, _, _) in rows],
            [self._parameters(sampling, seed) for _, (_, sampling, seed) in rows],
            lora_request=self._adapter,
            use_tqdm=False,
        )
        # vLLM adds random characters behind a dash, and leaves them out in its answers.
        return {name.partition("-")[0]: number for name, (number, _) in zip(names, rows, strict=True)}

    def _parameters(self, sampling: dict[str, Any], seed: int) -> SamplingParams:
        from vllm import SamplingParams

        return SamplingParams(**self._sampling, **sampling, seed=seed)


def _answer(output: RequestOutput) -> Answer:
    (written,) = output.outputs
    return list(written.token_ids), str(written.finish_reason), output.num_cached_tokens or 0


def _read(connection: Connection, inbox: SimpleQueue[tuple[str, Any] | None]) -> None:
    """Move the messages of a stream to a queue, up to its end; None says that the pipe has ended."""
    try:
        while True:
            inbox.put(message := connection.recv())
            if message[0] == "end":
                return
    except EOFError:
        inbox.put(None)


def _messages(inbox: SimpleQueue[tuple[str, Any] | None], *, wait: bool) -> Iterator[tuple[str, Any]]:
    """The messages that are there, at least one if `wait`; raises `EOFError` when the pipe has ended."""
    try:
        while True:
            if (message := inbox.get(block=wait)) is None:
                raise EOFError
            yield message
            wait = False
    except Empty:
        return


def reference_logprobs(start: Probed) -> list[list[float]]:
    """The expected values of `Server.logprobs`, by transformers and PEFT, on the CPU, in the served precision.

    Done here and not in the parent, whose memory would keep the size of the model for the rest of the job; and before
    vLLM loads, so that there are never two copies of the weights.
    """
    from policies.versions.checkpoints import load_checkpoint

    model = load_checkpoint(Path(start["checkpoint"]), start["dtype"]).eval()
    if start["adapter"] is not None:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, start["adapter"][2]).eval()
    found = prompt_logprobs(model, start["prompts"])
    del model
    gc.collect()
    return found


def prompt_logprobs(model: Any, prompts: Sequence[Sequence[int]]) -> list[list[float]]:
    """Log probability of each prompt's tokens from the second on, in nats, by a model of transformers."""
    import torch

    found = []
    with torch.inference_mode():
        for ids in prompts:
            tokens = torch.tensor(ids, device=model.device)
            logprobs = model(tokens[None, :-1]).logits[0].float().log_softmax(-1)
            found.append(logprobs.gather(1, tokens[1:, None])[:, 0].tolist())
    return found


def _row_counter(connection: Connection) -> type:
    """A progress bar class for vLLM that sends `notice` messages with the number of finished rows."""
    from tqdm import tqdm

    class Rows(tqdm):  # type: ignore[type-arg,misc,unused-ignore]
        def __init__(self, *args: Any, **settings: Any) -> None:
            self._unsent, self._sent_at = 0, time.monotonic()
            self._counts = settings.get("desc") == "Processed prompts"  # vLLM also shows one for reading prompts
            super().__init__(*args, **{**settings, "file": _NullFile(), "mininterval": 1e9})

        def update(self, n: float | None = 1) -> bool | None:
            self._unsent += int(n or 0)
            if self._counts and time.monotonic() - self._sent_at >= _NOTICE_SECONDS:
                self._send()
            super().update(n)
            return None

        def close(self) -> None:
            if self._counts and self._unsent:
                self._send()
            super().close()

        def _send(self) -> None:
            connection.send(("notice", self._unsent))
            self._unsent, self._sent_at = 0, time.monotonic()

    return Rows


class _NullFile:
    """A file that discards what is written."""

    def write(self, text: str) -> None:
        """Discard `text`."""

    def flush(self) -> None:
        """Do nothing."""


def main() -> None:
    """Serve the pipe whose descriptor is the program's argument."""
    converse(_serve)


def _serve(connection: Connection) -> None:
    _, start = connection.recv()
    import vllm  # before torch: it sets environment variables that torch reads

    reference = reference_logprobs(start) if start["reference"] else None
    server = Server(connection, start)
    served = server.logprobs(start["prompts"])
    connection.send(("started", Started(version=vllm.__version__, served=served, reference=reference)))
    while True:
        word, rows = connection.recv()
        if word == "stream":
            server.stream()
        else:
            connection.send(("answers", server.generate(rows)))


if __name__ == "__main__":
    main()

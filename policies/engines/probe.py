"""Reference log probabilities by transformers, computed in a process that ends with the answer.

In the job's process the weights would stay in memory until its end. Used by engines whose servers run elsewhere; the
vLLM engine's child computes its own.
"""

from __future__ import annotations

import os
import sys
from multiprocessing.connection import Connection
from pathlib import Path

from policies.engines.vllm_child import Probed, reference_logprobs
from svd_loop.support.child_process import Child, converse, gather


def reference_in_child(probed: Probed, seconds: float) -> list[list[float]]:
    """Log probability of every token but each prompt's first, in nats, computed on the CPU.

    Args:
        probed: version and prompts.
        seconds: time limit.

    Raises:
        EngineError: the weights cannot be loaded, or it took longer.
    """
    path = os.pathsep.join([str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])])
    child = Child(
        [sys.executable, "-m", "policies.engines.probe"],
        {**os.environ, "PYTHONPATH": path},
        f"transformers, {probed['checkpoint']}",
    )
    try:
        child.send("probe", probed)
        logprobs: list[list[float]]
        (logprobs,) = gather([child], seconds)
        return logprobs
    finally:
        child.close(at_once=True)


def main() -> None:
    """Answer one request over the pipe whose descriptor is the program's argument."""
    converse(_answer)


def _answer(connection: Connection) -> None:
    _, probed = connection.recv()
    connection.send(("logprobs", reference_logprobs(probed)))


if __name__ == "__main__":
    main()

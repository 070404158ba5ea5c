"""The comparison of an engine's log probabilities with those of transformers.

The reference is computed in a process that ends with the answer: in the job's process the weights would stay in memory
until its end. That is for engines whose servers run elsewhere; the vLLM engine's child computes its own.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path

from policies.engines.serving import Served
from policies.engines.vllm_child import Probed, Started, reference_logprobs
from svd_loop.errors import ModelError
from svd_loop.support.child_process import Child, converse, gather

_TOLERANCES = {"float32": 0.01}
_HALF_TOLERANCE = 0.1


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


def default_tolerance(dtype: str) -> float:
    """The default of `engine.probe_tolerance` for a precision of the weights, in nats."""
    return _TOLERANCES.get(dtype, _HALF_TOLERANCE)


def check_probe(started: Sequence[Started], tolerance: float, served: Served, *, engine: str = "vLLM") -> float:
    """Compare every child's log probabilities of the probe with those of transformers.

    Args:
        started: the children's answers; the first one holds the reference.
        tolerance: mean absolute difference allowed, in nats.
        served: the version, for the error.
        engine: what answered, for the error.

    Returns:
        The largest mean absolute difference of a child, in nats.

    Raises:
        ModelError: it is above `tolerance`, or not a number.
    """
    reference = started[0]["reference"]
    assert reference is not None
    expected = [value for row in reference for value in row]
    differences = []
    for answer in started:
        found = [value for row in answer["served"] for value in row]
        differences.append(sum(abs(a - b) for a, b in zip(expected, found, strict=True)) / len(expected))
    worst = max(differences)
    if not worst <= tolerance:  # also if it is not a number
        raise ModelError(
            f"{served.name}: {engine} and transformers disagree about {served.adapter or served.checkpoint}: log "
            f"probabilities of {len(expected)} tokens differ by {worst:.3g} nats on average, {tolerance:g} are allowed "
            f"(engine.probe_tolerance). {engine} serves other weights than those stored, or computes it otherwise"
        )
    return worst


def main() -> None:
    """Answer one request over the pipe whose descriptor is the program's argument."""
    converse(_answer)


def _answer(connection: Connection) -> None:
    _, probed = connection.recv()
    connection.send(("logprobs", reference_logprobs(probed)))


if __name__ == "__main__":
    main()

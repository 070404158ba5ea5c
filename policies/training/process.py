"""The program that `accelerate launch` runs in every process of an update (`policies.training.launching`).

All of its inputs are in the run's folder, and all of its outputs go there: the number of finished steps, the trained
weights and figures of process 0, and the error of any process that fails.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from svd_loop.contracts import TrainingRow
from svd_loop.errors import SvdError
from svd_loop.support.allocator import bound_kernel_caches, keep_freed_memory
from svd_loop.support.child_process import die_with_parent

TASK, ROWS, STEP, RESULT, WEIGHTS = "task.json", "rows.jsonl", "step", "result.json", "trained"
"""Files in the run's folder; `WEIGHTS` is a folder."""
OUT_OF_MEMORY = "out of memory"


def failure_file(work: Path, rank: int) -> Path:
    """The file in which process `rank` writes why it failed."""
    return work / f"failure-{rank}.json"


def main() -> None:
    """Train; on failure, write the reason and exit with code 1."""
    die_with_parent()  # when the job is killed, stdin ends, and so do its processes
    keep_freed_memory()
    bound_kernel_caches()
    work, rank = Path(sys.argv[1]), int(os.environ["RANK"])
    try:
        _run(work, rank)
    except BaseException as error:
        failure_file(work, rank).write_text(json.dumps(_failure(error)), encoding="utf-8")
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)  # at once: an orderly end would wait for processes that wait for this one


def _run(work: Path, rank: int) -> None:
    from transformers import AutoTokenizer

    from policies.training.run import TrainingTask, train
    from policies.versions.checkpoints import foundation
    from policies.versions.stored import stored_version

    task = TrainingTask.parse((work / TASK).read_text(encoding="utf-8"))
    with (work / ROWS).open(encoding="utf-8") as file:
        rows = [read_row(json.loads(line)) for line in file]
    tokenizer = AutoTokenizer.from_pretrained(
        str(foundation(stored_version(task.start))), local_files_only=True, trust_remote_code=False
    )

    def on_step(step: int) -> None:
        if rank == 0:
            (work / STEP).write_text(str(step), encoding="utf-8")

    trained = train(task, rows, tokenizer, on_step)
    trained.save(work / WEIGHTS)
    if rank == 0:
        (work / RESULT).write_text(json.dumps({"metrics": dict(trained.metrics), "steps": trained.steps}))


def plain_row(row: TrainingRow) -> dict[str, Any]:
    """The fields of a row that training uses."""
    return {"input_ids": row.input_ids, "supervised_from": row.supervised_from}


def read_row(data: Mapping[str, Any]) -> TrainingRow:
    """The inverse of `plain_row`."""
    return TrainingRow(tuple(data["input_ids"]), data["supervised_from"], "")


def _failure(error: BaseException) -> dict[str, str]:
    from svd_loop.support.torch_memory import is_out_of_memory

    kind = type(error).__name__ if isinstance(error, SvdError) else ""
    if isinstance(error, Exception) and is_out_of_memory(error):
        kind = OUT_OF_MEMORY
    message = str(error) if kind else f"{type(error).__name__}: {error}"
    return {"kind": kind, "message": message}


if __name__ == "__main__":
    main()

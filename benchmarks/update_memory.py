"""Peak resident memory of real updates on a CPU, against what `check` estimates for them.

    OMP_NUM_THREADS=1 python -m benchmarks.update_memory [--json] [SIZE ...]

A SIZE is `hidden,vocabulary,layers,method,tokens,rows`, and an algorithm's name behind it if it is not `sft`. Each is
a model with random weights, stored in bfloat16, and two optimizer steps of the product's own updater in a process of
its own; the second step has the optimizer's state as well. The estimate is that of the footprint, the file while it is
converted, and what the process held before.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import resource
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from policies.training.footprint import host_overhead, shape_of, training_memory
from svd_loop.config.update import LoraSection, UpdateSection
from svd_loop.contracts import RefusedRow, TrainingRow, UpdateMaterial

GIB = 2**30
SIZES = (
    "64,151936,4,lora,256,4",
    "512,151936,12,lora,512,1",
    "512,151936,12,lora,512,2",
    "1024,151936,4,lora,64,1",
    "256,32000,8,full,512,4",
    "256,151936,4,full,256,2",
    "1024,151936,4,full,64,1",
)
STOP = 2
STEPS = 2


@dataclass(frozen=True, slots=True)
class Found:
    """The peak and the estimate of one size, in GiB."""

    size: str
    parameters: int
    seen: float
    estimated: float


def main() -> None:
    """Print a line for each size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sizes", nargs="*", default=SIZES)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    found = [measured(size) for size in arguments.sizes]
    if arguments.json:
        print(json.dumps([asdict(one) for one in found]))
        return
    print(f"{'hidden,vocabulary,layers,method,tokens,rows':<46}{'parameters':>13}{'seen':>8}{'told':>8}{'ratio':>8}")
    for one in found:
        ratio = one.estimated / one.seen
        print(f"{one.size:<46}{one.parameters:>13,}{one.seen:>8.2f}{one.estimated:>8.2f}{ratio:>8.2f}")


def measured(size: str) -> Found:
    """Measure one size in a forked process, which starts with this process's imports and memory."""
    gc.disable()
    import transformers  # noqa: F401  (imported once, before the fork)
    import trl.trainer.sft_trainer  # noqa: F401

    import policies.training.grpo_run
    import policies.training.preference_run  # noqa: F401

    gc.freeze()  # a training's full collection leaves the imports out
    gc.enable()

    with tempfile.TemporaryDirectory() as folder:
        for work in (make_checkpoint, update):
            if (child := os.fork()) == 0:
                status = 1
                try:
                    work(size, Path(folder))
                    status = 0
                finally:
                    os._exit(status)
            if os.waitpid(child, 0)[1] != 0:
                raise RuntimeError(f"{size}: {work.__name__} failed")
        return Found(size, **json.loads((Path(folder) / "found.json").read_text()))


def make_checkpoint(size: str, folder: Path) -> None:
    """Write a model with random weights, and the embedded tokenizer beside it."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen3Config

    from svd_loop.nano import NANO_CHECKPOINT

    hidden, vocabulary, layers, *_ = size.split(",")
    width = int(hidden)
    config = Qwen3Config(
        vocab_size=int(vocabulary),
        hidden_size=width,
        intermediate_size=3 * width,
        num_hidden_layers=int(layers),
        num_attention_heads=width // 32,
        num_key_value_heads=width // 64,
        head_dim=32,
        tie_word_embeddings=True,
    )
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).to(torch.bfloat16).save_pretrained(folder / "base")
    AutoTokenizer.from_pretrained(NANO_CHECKPOINT, trust_remote_code=False).save_pretrained(folder / "base")


def update(size: str, folder: Path) -> None:
    """Train two steps and write what was seen and estimated."""
    from transformers import AutoTokenizer

    from policies.training.dpo import DpoUpdater
    from policies.training.grpo import GrpoUpdater
    from policies.training.kto import KtoUpdater
    from policies.training.sft import SftUpdater
    from policies.versions.weights import WeightStore
    from svd_loop.config.update import UPDATES
    from svd_loop.support.allocator import keep_freed_memory

    method, tokens, count = size.split(",")[3], *map(int, size.split(",")[4:6])
    algorithm = (*size.split(","), "sft")[6]
    keep_freed_memory()  # as a job does
    settings = UpdateSection(
        algorithm=UPDATES.find(algorithm).section(type=algorithm),
        method=method,  # type: ignore[arg-type]
        lora=LoraSection(rank=16),
        micro_batch_size=count,
        batch_size=count,
        steps=STEPS,
        max_length=tokens,
        bf16=False,
    )
    shape = shape_of(folder / "base")
    needed = training_memory(shape, settings, tokens=tokens, bf16=False)
    before = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    store = WeightStore(folder / "versions")
    store.add_base(folder / "base")
    kinds: dict[str, Callable[..., Any]] = {
        "sft": SftUpdater,
        "dpo": DpoUpdater,
        "kto": KtoUpdater,
        "grpo": GrpoUpdater,
    }
    updater = kinds[algorithm](
        store,
        settings,
        tokenizer=AutoTokenizer.from_pretrained(folder / "base", trust_remote_code=False),
        stop_ids={STOP},
        pad_id=0,
        device="cpu",
    )
    accepted = rows(tokens, STEPS * count)
    refused = [
        RefusedRow(
            replace(row, origin="refused", candidate=1, input_ids=(*row.input_ids[:-2], 19, STOP)), "correctness"
        )
        for row in accepted
    ]
    updater.learn(UpdateMaterial(accepted, refused), round=1, parent=store.load(0).path)
    seen = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    estimated = before + needed.total + host_overhead(shape)
    found = {"parameters": shape.parameters, "seen": seen / GIB, "estimated": estimated / GIB}
    (folder / "found.json").write_text(json.dumps(found))


def rows(tokens: int, count: int) -> Sequence[TrainingRow]:
    """Rows of the greatest length, all but ten tokens supervised."""
    ids = (*[10] * 10, *(20 + place % 50 for place in range(tokens - 11)), STOP)
    return [TrainingRow(ids, 10, "accepted", f"p{place}", round=1) for place in range(count)]


if __name__ == "__main__":
    main()

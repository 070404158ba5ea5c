"""vLLM against the transformers engine on the embedded checkpoint, the same requests in the same run.

    make setup-vllm && .venv/bin/python -m benchmarks.vllm_engine

One JSON object on stdout: seconds to start, how many greedy answers agree, whether seeds repeat, alone and in other
company, output tokens per second of sampling, seconds of judging, and the share of prompt tokens that the prefix cache
answered. `layouts` is that share for two layouts of the judge's prompts (`benchmarks.vllm_layouts`).
Greedy answers that differ are listed with the difference of the two tokens' logits where they part.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import torch

from benchmarks.vllm_layouts import layouts
from envs.cascade.cascade import Cascade
from envs.solving import SolverAgent
from policies.engines.vllm import VllmEngine
from policies.opening import open_engine
from policies.policy import ModelPolicy
from policies.text.chat import ChatCodec
from policies.versions.checkpoints import load_checkpoint, load_codec
from policies.versions.weights import WeightStore
from svd_loop.assembly.backends import samplings_of
from svd_loop.assembly.data import held_out
from svd_loop.assembly.job import template_set
from svd_loop.config import Config, load_config
from svd_loop.contracts import Engine, Generation, GenerationRequest, PolicyVersion, Prompt, Role, Sampling
from svd_loop.nano import NANO_CHECKPOINT

CONFIG = Path(__file__).parents[1] / "configs" / "nano.yaml"
VLLM = ("type=vllm", "enforce_eager=true", "kv_cache_gib=0.5")


def configured(prompts: int, engine: Sequence[str]) -> Config:
    """The nano job with `prompts` held-out problems and an engine."""
    data = ["data.train.count=3", f"data.development.count={-(-prompts // 3)}", "data.test=null", "model.dtype=float32"]
    return load_config(CONFIG, [*data, *(f"engine.{setting}" for setting in engine)])


def greedy_requests(config: Config, codec: ChatCodec, prompts: Sequence[Prompt]) -> list[GenerationRequest]:
    """One greedy request per prompt."""
    templates = template_set(config)
    ids = codec.encode([templates.render(Role.SOLVER, item.domain, question=item.text) for item in prompts])
    return [GenerationRequest(row, Sampling(config.sampling.max_tokens, 0.0), 0) for row in ids]


def disagreements(
    greedy: Sequence[GenerationRequest], one: Sequence[Generation], other: Sequence[Generation]
) -> list[dict[str, float]]:
    """Where greedy answers part: the place, and by how much the model prefers one token to the other (logits)."""
    model = load_checkpoint(NANO_CHECKPOINT, "float32").eval()
    found = []
    for request, a, b in zip(greedy, one, other, strict=True):
        if a == b:
            continue
        pairs = list(zip(a.token_ids, b.token_ids, strict=False))
        place = next((i for i, (x, y) in enumerate(pairs) if x != y), len(pairs) - 1)
        with torch.inference_mode():
            logits = model(torch.tensor([[*request.prompt_ids, *a.token_ids[:place]]])).logits[0, -1]
        found.append({"place": place, "logits": float(logits[a.token_ids[place]] - logits[b.token_ids[place]])})
    return found


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """What `work` returns, and its seconds."""
    began = time.monotonic()
    return work(), time.monotonic() - began


def measure(config: Config, prompts: list[Prompt], folder: Path) -> tuple[dict[str, Any], list[Generation]]:
    """Figures of the configured engine, and its greedy answers."""
    stored = WeightStore(folder).add_base(NANO_CHECKPOINT)
    codec = load_codec(stored)
    greedy = greedy_requests(config, codec, prompts)
    sampled = [
        GenerationRequest(request.prompt_ids, config.sampling.to_sampling(), 1000 * place + seed)
        for place, request in enumerate(greedy)
        for seed in range(4)
    ]
    engine, start = timed(lambda: open_engine(stored, codec, config.engine, config.model))  # type: ignore[arg-type]
    with closing(engine):
        engine.generate(greedy[:8])  # first use
        answers, _ = timed(lambda: engine.generate(greedy))
        first, seconds = timed(lambda: engine.generate(sampled))
        tokens = sum(len(answer.token_ids) for answer in first)
        again = engine.generate(sampled)
        part = engine.generate(sampled[::7])
        figures = {
            "start_seconds": start,
            "sampling_tokens_per_second": tokens / seconds,
            "repeats": f"{same(first, again)} of {len(first)}",
            "in_other_company": f"{same(first[::7], part)} of {len(part)}",
            **judged(engine, codec, config, prompts[: len(prompts) // 5]),
        }
    return figures, answers


def same(one: Sequence[Generation], other: Sequence[Generation]) -> int:
    """How many answers are equal."""
    return sum(a == b for a, b in zip(one, other, strict=True))


def judged(engine: Engine, codec: ChatCodec, config: Config, prompts: list[Prompt]) -> dict[str, Any]:
    """Seconds of judging four candidates of each prompt, and the prefix cache's share meanwhile."""
    policy = ModelPolicy(
        engine, codec, PolicyVersion(0, ""), samplings_of(config), job_seed=0, max_context=config.model.max_context
    )
    templates = template_set(config)
    candidates = SolverAgent(templates).sample(policy, prompts, range(4), round=1)
    by_id = {prompt.id: prompt for prompt in prompts}
    items = [(by_id[candidate.prompt_id], candidate) for candidate in candidates]
    cache = engine.prefix_cache if isinstance(engine, VllmEngine) else None
    before = (cache.prompt_tokens, cache.cached_tokens) if cache else (0, 0)
    verdicts, seconds = timed(lambda: Cascade(templates, config.cascade, config.job.seed).judge(policy, items, round=1))
    figures: dict[str, Any] = {"judging_seconds": seconds, "accepted": sum(verdict.accepted for verdict in verdicts)}
    if cache:
        asked, cached = cache.prompt_tokens - before[0], cache.cached_tokens - before[1]
        figures |= {"judging_prompt_tokens": asked, "judging_hit_rate": cached / asked}
    return figures


def main() -> None:
    """Measure both engines and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--prompts", type=int, default=500)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--block-size", type=int, default=32, help="of vLLM's KV cache, in tokens")
    parser.add_argument("--layouts-only", action="store_true", help="compare the layouts of judge prompts alone")
    options = parser.parse_args()
    threads = f"threads={options.threads}"
    kinds = {
        "transformers": configured(options.prompts, [threads]),
        "vllm": configured(options.prompts, [*VLLM, threads, f"block_size={options.block_size}"]),
    }
    problems = held_out(kinds["vllm"])["development"][: options.prompts]
    prompts = [problem.as_prompt() for problem in problems]
    with tempfile.TemporaryDirectory() as scratch:
        folder, few = Path(scratch), prompts[:80]
        compared = {
            f"solution times {repeat}": layouts(kinds["vllm"], few, folder / f"layouts-{repeat}", repeat)
            for repeat in (1, 24, 150, 450)
        }
        if options.layouts_only:
            json.dump(compared, sys.stdout, indent=2)
            return
        found = {kind: measure(config, prompts, Path(scratch) / kind) for kind, config in kinds.items()}
        codec = ChatCodec.load(NANO_CHECKPOINT)
        one, other = found["transformers"][1], found["vllm"][1]
        parted = disagreements(greedy_requests(kinds["vllm"], codec, prompts), one, other)
    report = {
        "prompts": len(prompts),
        "greedy_answers_equal": same(one, other),
        "parted": parted,
        "layouts": compared,
        **{kind: figures for kind, (figures, _) in found.items()},
    }
    json.dump(report, sys.stdout, indent=2)


if __name__ == "__main__":
    main()

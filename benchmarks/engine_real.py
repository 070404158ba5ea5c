"""The transformers engine on a real checkpoint, beside itself at another commit.

    OMP_NUM_THREADS=1 python -m benchmarks.engine_real CHECKPOINT --problems FILE [--against COMMIT] [--exact]

CHECKPOINT is a folder or a GGUF file, FILE has JSON Lines with a `question`. Sampling is one wave: all candidates of
all questions. Judging is what a cascade asks of a few of the sampled candidates where every vote says yes: a wave for
each vote of each stage. Each side is a process of its own, which loads the model once; both get the same requests,
taking turns. `--against` checks the commit out into a temporary worktree; its engine runs in float32, the default of
the time. `--exact` adds two sides of this tree in float32, one that knows prefixes and one that reads every prompt from
its start (`unshared`), and counts equal answers and equal votes. One JSON object on stdout: prompt tokens read, tokens
written, processor and wall seconds, and equal answers.
"""

from __future__ import annotations

import argparse
import inspect
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
Wave = list[tuple[Sequence[int], int, int]]
"""Requests: prompt ids, longest answer, seed."""
TEMPERATURE, TOP_P = 0.7, 0.95


class Side:
    """A process with the engine of one source tree."""

    def __init__(
        self, tree: Path, checkpoint: Path, options: argparse.Namespace, dtype: str, *, shared: bool = True
    ) -> None:
        arguments = ["--worker", "--dtype", dtype, "--threads", str(options.threads), "--problems", "-"]
        arguments += [] if shared else ["--unshared"]
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).resolve()), str(checkpoint), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(tree)},
        )

    def play(self, waves: Sequence[Wave]) -> dict[str, Any]:
        """Answer the waves in order; returns answers and costs."""
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps(waves) + "\n")
        self._process.stdin.flush()
        while line := self._process.stdout.readline():
            if line.startswith('{"answers"'):
                return json.loads(line)  # type: ignore[no-any-return]
        raise SystemExit("a side ended early; see its messages above")

    def __enter__(self) -> Side:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()


def work(options: argparse.Namespace) -> None:
    """Answer waves from standard input; what is imported here has to be in both source trees."""
    import torch
    from transformers import AutoModelForCausalLM

    from policies.engines.transformers import TransformersEngine
    from svd_loop.contracts import GenerationRequest, Sampling

    torch.set_num_threads(options.threads)
    dtype = getattr(torch, options.dtype)
    model: Any = AutoModelForCausalLM.from_pretrained(options.checkpoint, dtype=dtype, trust_remote_code=False)
    read = 0

    def note(_: object, __: object, kwargs: dict[str, torch.Tensor]) -> None:
        nonlocal read
        if (mask := kwargs["attention_mask"]).dim() == 2:  # reading; a step has a mask of four dimensions
            read += int(mask[:, -kwargs["input_ids"].shape[1] :].sum())

    model.register_forward_pre_hook(note, with_kwargs=True)
    stops = model.generation_config.eos_token_id
    known = "prefix_bytes" in inspect.signature(TransformersEngine).parameters and not options.unshared
    memory = {"prefix_bytes": 2**30} if known else {}
    engine = TransformersEngine(model, stop_ids=[stops] if isinstance(stops, int) else stops, **memory)
    for line in sys.stdin:
        read, cpu, wall, answers = 0, time.process_time(), time.perf_counter(), []
        for wave in json.loads(line):
            requests = [
                GenerationRequest(tuple(ids), Sampling(most, temperature=TEMPERATURE, top_p=TOP_P), seed)
                for ids, most, seed in wave
            ]
            answers.append([answer.token_ids for answer in engine.generate(requests)])
        cost = {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall, "read": read}
        print(json.dumps({"answers": answers, **cost}), flush=True)


class Prompts:
    """The prompts of solver and judge as token ids."""

    def __init__(self, checkpoint: Path) -> None:
        from envs.cascade.template_sets import TemplateSet
        from policies.text.chat import ChatCodec

        self._templates, self.codec = TemplateSet.load("chat"), ChatCodec.load(checkpoint)

    def of(self, role: str, **fields: str) -> tuple[int, ...]:
        """Token ids of one call."""
        return self.codec.encode([self._templates.render(role, "math", **fields)])[0]


def sampling_wave(prompts: Prompts, questions: Sequence[str], options: argparse.Namespace) -> Wave:
    """All candidates of all questions."""
    asked = [(prompts.of("solver", question=question), options.tokens) for question in questions]
    return [(ids, most, 1000 * place + n) for place, (ids, most) in enumerate(asked) for n in range(options.n)]


def judging_waves(
    prompts: Prompts, items: Sequence[tuple[str, str]], options: argparse.Namespace
) -> tuple[list[Wave], list[Wave]]:
    """Waves of fact checking and inferring, which need nothing but (question, answer); and of grading."""

    def waves(role: str, offset: int) -> list[Wave]:
        asked = []
        for question, answer in items:
            fields = {"solution": answer} | ({} if role == "question_inferrer" else {"question": question})
            asked.append(prompts.of(role, **fields))
        return [
            [(ids, options.verdict, offset + 97 * v + c) for c, ids in enumerate(asked)] for v in range(options.votes)
        ]

    return waves("fact_checker", 10**6) + waves("question_inferrer", 2 * 10**6), waves("grader", 3 * 10**6)


def comparing_waves(
    prompts: Prompts, items: Sequence[tuple[str, str]], inferred: Sequence[Sequence[str]], options: argparse.Namespace
) -> list[Wave]:
    """A wave for each vote, each with its own reconstructed questions."""
    return [
        [
            (prompts.of("question_comparer", question=question, inferred=text), options.verdict, 4 * 10**6 + 97 * v + c)
            for c, ((question, _), text) in enumerate(zip(items, texts, strict=True))
        ]
        for v, texts in enumerate(inferred)
    ]


def measure(sides: dict[str, Side], prompts: Prompts, questions: Sequence[str], options: argparse.Namespace) -> Any:
    """Play both phases on all sides, in alternating order."""
    wave = sampling_wave(prompts, questions, options)
    sampled = {name: side.play([wave]) for name, side in sides.items()}
    figures = {"sampling": _figures(sampled, [wave], prompts)}
    print(json.dumps(figures), file=sys.stderr, flush=True)
    texts = prompts.codec.decode([tuple(ids) for ids in sampled["this"]["answers"][0]])
    items = [
        (questions[place], texts[place * options.n + n].strip() or "?")
        for place in range(options.judged)
        for n in range(2)
    ]
    before, grading = judging_waves(prompts, items, options)
    first = {name: side.play(before) for name, side in reversed(sides.items())}
    inferred = [prompts.codec.decode([tuple(x) for x in w]) for w in first["this"]["answers"][options.votes :]]
    after = comparing_waves(prompts, items, [[x.strip() or "?" for x in w] for w in inferred], options) + grading
    second = {name: side.play(after) for name, side in sides.items()}
    judged = {name: _joined(first[name], second[name]) for name in sides}
    return figures | {"judging": _figures(judged, [*before, *after], prompts)}


def _joined(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    return {key: one[key] + other[key] for key in one}


def _figures(played: dict[str, dict[str, Any]], waves: Sequence[Wave], prompts: Prompts) -> dict[str, Any]:
    asked = sum(len(ids) for wave in waves for ids, _, _ in wave)
    figures: dict[str, Any] = {"rows": sum(map(len, waves)), "prompt_tokens": asked}
    for name, found in played.items():
        written = sum(len(ids) for wave in found["answers"] for ids in wave)
        costs = {key: round(found[key], 1) for key in ("read", "cpu", "wall")}
        figures[name] = {
            **costs,
            "written": written,
            "cpu_ms_per_token": round(1000 * found["cpu"] / (asked + written), 2),
        }
    figures["equal"] = {
        f"{one} and {other}": _equal(played[one], played[other], prompts)
        for one, other in (("this", "against"), ("float32", "unshared"), ("float32", "against"))
        if one in played and other in played
    }
    if "against" in played:
        for key in ("read", "cpu", "wall"):
            figures[f"times_fewer_{key}"] = round(played["against"][key] / played["this"][key], 2)
    return figures


def _equal(one: dict[str, Any], other: dict[str, Any], prompts: Prompts) -> dict[str, int]:
    """Rows with the same tokens, and rows read as the same vote (sampled answers hold none)."""
    from envs.cascade.votes import read_verdict
    from svd_loop.contracts import VoteValue

    mine, theirs = ([tuple(ids) for wave in side["answers"] for ids in wave] for side in (one, other))
    votes = [[read_verdict(text) for text in prompts.codec.decode(ids)] for ids in (mine, theirs)]
    return {
        "answers": sum(a == b for a, b in zip(mine, theirs, strict=True)),
        "votes": sum(a == b for a, b in zip(*votes, strict=True)),
        "readable": sum(vote is not VoteValue.INVALID for vote in votes[0]),
    }


@contextmanager
def worktree(commit: str) -> Iterator[Path]:
    """The source tree of a commit, for as long as it is needed."""
    with tempfile.TemporaryDirectory() as scratch:
        tree = Path(scratch) / "tree"
        subprocess.run(["git", "worktree", "add", "--detach", tree, commit], cwd=ROOT, check=True, stdout=sys.stderr)
        try:
            yield tree
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", tree], cwd=ROOT, check=True)


def main() -> None:
    """Measure and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--problems", required=True)
    parser.add_argument("--against", metavar="COMMIT")
    parser.add_argument("--exact", action="store_true", help="compare float32 with and without known prefixes")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--prompts", type=int, default=8)
    parser.add_argument("--n", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=64, help="longest sampled answer")
    parser.add_argument("--judged", type=int, default=2, help="questions of which two candidates are judged")
    parser.add_argument("--votes", type=int, default=2)
    parser.add_argument("--verdict", type=int, default=24, help="longest answer of a judge")
    parser.add_argument("--store", type=Path, default=Path(tempfile.gettempdir()) / "engine-real")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--unshared", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(options)
        return
    from policies.versions.inspection import usable_checkpoint
    from policies.versions.precision import chosen_dtype

    checkpoint = usable_checkpoint(options.checkpoint, options.store)
    dtype = chosen_dtype(options.dtype, checkpoint, on_gpu=False)
    with open(options.problems, encoding="utf-8") as file:
        questions = [json.loads(next(file))["question"] for _ in range(options.prompts)]
    with ExitStack() as stack:
        sides = {"this": stack.enter_context(Side(ROOT, checkpoint, options, dtype))}
        if options.exact:
            for name in ("float32", "unshared"):
                side = Side(ROOT, checkpoint, options, "float32", shared=name == "float32")
                sides[name] = stack.enter_context(side)
        if options.against:
            tree = stack.enter_context(worktree(options.against))
            sides["against"] = stack.enter_context(Side(tree, checkpoint, options, "float32"))
        found = measure(sides, Prompts(checkpoint), questions, options)
    json.dump({"dtype": dtype, "against": options.against, **found}, sys.stdout, indent=2)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()

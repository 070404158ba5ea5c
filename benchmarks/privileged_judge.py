"""A judge that is shown an accepted solution of the same problem, beside one that is not, and beside equal answers.

    python -m benchmarks.privileged_judge [--config JOB.yaml] [--samples 4] [-o data.development.count=100]

Would an accepted sibling in the judge's prompt give better verdicts on the other candidates, to train the plain judge
on? Round 0's policy answers every development problem a few times; the first candidate that the cascade accepts is the
sibling. Each stage then judges the problem's other candidates once, plain and with the sibling behind the problem. The
third verdict costs nothing: yes if the final answer is the sibling's. Gold tells how often each is right (J is the true
minus the false positive rate). Nothing is stored or trained.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from envs.cascade.cascade import Cascade
from envs.solving import SolverAgent
from svd_loop.assembly.backends import make_backend
from svd_loop.assembly.data import held_out
from svd_loop.assembly.job import make_cascade, template_set
from svd_loop.config import Config, load_config
from svd_loop.contracts import Candidate, Outcome, Policy, Prompt, VoteValue
from svd_loop.evaluation.evaluation import answer_comparison, score_pairs
from svd_loop.support.allocator import keep_freed_memory

WORDS = "\n\nFor your information, a solution of this question that has been accepted as correct:\n\n"


@dataclass(frozen=True)
class Judged:
    """A candidate that is not its prompt's accepted sibling."""

    prompt: Prompt
    candidate: Candidate
    sibling: Candidate
    right: bool
    sibling_right: bool


def siblings(config: Config, cascade: Cascade, policy: Policy, samples: int) -> list[Judged]:
    """The candidates of all problems of which the cascade accepts one, that one left out."""
    problems = held_out(config)["development"]
    prompts = [problem.as_prompt() for problem in problems]
    solver = SolverAgent(template_set(config))
    drawn = solver.sample(policy, prompts, range(samples), round=0, purpose="development")
    groups = [drawn[start : start + samples] for start in range(0, len(drawn), samples)]
    items = [(prompt, one) for prompt, group in zip(prompts, groups, strict=True) for one in group]
    verdicts = iter(cascade.judge(policy, items, round=0, purpose="sibling"))
    evaluation = config.evaluation
    pairs = [(one.text, problem) for problem, group in zip(problems, groups, strict=True) for one in group]
    outcomes = iter(score_pairs(pairs, evaluation.test_seconds, evaluation.domains))
    found = []
    for prompt, group in zip(prompts, groups, strict=True):
        accepted = [next(verdicts).accepted for _ in group]
        right = [next(outcomes) is Outcome.RIGHT for _ in group]
        if not any(accepted):
            continue
        first = accepted.index(True)
        found += [
            Judged(prompt, one, group[first], right[place], right[first])
            for place, one in enumerate(group)
            if place != first and one.text
        ]
    return found


def rates(said: Sequence[bool], right: Sequence[bool]) -> Mapping[str, float]:
    """True and false positive rate, and J."""
    true = sum(one for one, two in zip(said, right, strict=True) if two) / max(1, sum(right))
    false = sum(one for one, two in zip(said, right, strict=True) if not two) / max(1, len(right) - sum(right))
    return {"tpr": round(true, 3), "fpr": round(false, 3), "j": round(true - false, 3)}


def compare(config: Config, samples: int, words: str) -> dict[str, object]:
    """The rates of every stage, plain and privileged, and of equal final answers."""
    once = config.cascade.model_copy(update={"votes": 1, "early_exit": False})
    templates = template_set(config)
    single = make_cascade(config.model_copy(update={"cascade": once}), templates)
    with tempfile.TemporaryDirectory() as folder, closing(make_backend(config, Path(folder)).open(0)) as policy:
        judged = siblings(config, make_cascade(config, templates), policy, samples)
        right = [one.right for one in judged]
        figures: dict[str, object] = {"candidates": len(judged), "right": sum(right)}
        figures["siblings_right"] = round(sum(one.sibling_right for one in judged) / len(judged), 3)
        for name in ("plain", "privileged"):
            items = [(_shown(one, words) if name == "privileged" else one.prompt, one.candidate) for one in judged]
            verdicts = single.judge(policy, items, round=0, purpose=name)
            figures[name] = {
                stage: rates(
                    [any((v.stage, v.value) == (stage, VoteValue.YES) for v in verdict.votes) for verdict in verdicts],
                    right,
                )
                for stage in once.stage_names
            }
    same = answer_comparison(config.evaluation.domains).same(
        [(one.prompt, one.candidate.text, one.sibling.text) for one in judged]
    )
    figures["equal_answers"] = rates([outcome is Outcome.RIGHT for outcome in same], right)
    return figures


def _shown(one: Judged, words: str) -> Prompt:
    return replace(one.prompt, text=one.prompt.text + words + one.sibling.text)


def main() -> None:
    """Measure and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=Path("nano"), help="a job's file")
    parser.add_argument("--samples", type=int, default=4, help="of each development problem")
    parser.add_argument("--words", default=WORDS, help="between the problem and the sibling")
    parser.add_argument("-o", action="append", default=[], help="an override of the configuration")
    options = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(1)
    config = load_config(options.config, options.o)
    print(json.dumps(compare(config, options.samples, options.words)))


if __name__ == "__main__":
    main()

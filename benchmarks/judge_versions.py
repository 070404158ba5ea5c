"""The judges of several versions of a job on the same answers: has the judge changed, or have the answers?

    python -m benchmarks.judge_versions FOLDER [FOLDER ...] --answers 0 12 --judges 0 4 8 12 [-o cascade.votes=1]

FOLDER is a job's, with its ledger and versions. Every version of `--answers` solves the development problems of the
job's audit (one sample each), and every version of `--judges` judges all of these answers by the whole cascade. A
round's own audit has the version judge its own answers, so that its figures move with both. Nothing is stored.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import torch

from envs.solving import SolverAgent
from svd_loop.assembly.backends import make_backend
from svd_loop.assembly.data import held_out
from svd_loop.assembly.job import make_cascade, template_set
from svd_loop.config import load_config
from svd_loop.contracts import Candidate, Policy, Prompt
from svd_loop.evaluation.audit import JudgeAudit, audit_sample
from svd_loop.support.allocator import keep_freed_memory


@dataclass(frozen=True)
class Answered(SolverAgent):
    """A solver whose answers are given, whoever is asked."""

    candidates: Sequence[Candidate]

    def sample(
        self, policy: Policy, prompts: Sequence[Prompt], indices: Sequence[int], *, round: int, purpose: str = "train"
    ) -> list[Candidate]:
        """The given answers."""
        return list(self.candidates)


def compare(
    folder: Path, answering: Sequence[int], judging: Sequence[int], overrides: Sequence[str]
) -> list[dict[str, object]]:
    """The cascade's rates of each judge on each version's answers."""
    config = load_config(folder / "config.json", overrides)
    templates = template_set(config)
    backend, cascade = make_backend(config, folder / "versions"), make_cascade(config, templates)
    evaluation = config.evaluation
    development = held_out(config)["development"]
    problems = audit_sample(development, evaluation.audit or len(development))
    prompts = [problem.as_prompt() for problem in problems]
    answers = {}
    for version in answering:
        with closing(backend.open(version)) as policy:
            given = SolverAgent(templates).sample(policy, prompts, range(1), round=0, purpose="development")
            answers[version] = Answered(templates, given)
    found: list[dict[str, object]] = []
    for version in judging:
        with closing(backend.open(version)) as policy:
            for author, solver in answers.items():
                audit = JudgeAudit(problems, solver, cascade, evaluation.test_seconds, evaluation.domains)
                rates = audit(policy)
                last = rates[list(rates)[-1]]
                passed = rates["complete"]
                found.append(
                    {
                        "job": folder.name,
                        "answers": author,
                        "judge": version,
                        "pass@1": passed.precision,
                        "recall": last.recall,
                        "false_positive": last.false_positive,
                        "precision": last.precision,
                    }
                )
    return found


def main() -> None:
    """Measure and print one JSON line a pair of versions."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--answers", type=int, nargs="+", default=[0])
    parser.add_argument("--judges", type=int, nargs="+", required=True)
    parser.add_argument("-o", action="append", default=[], help="an override of the job's configuration")
    options = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(1)
    for folder in options.folders:
        for row in compare(folder, options.answers, options.judges, options.o):
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()

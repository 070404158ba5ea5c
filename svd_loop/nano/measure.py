"""Measure a nano checkpoint before the loop: how well it solves, and how well it judges its own solutions.

The loop can only work if there is a gap between the two. So the gap is measured on the policy's *own* samples of
development problems, the distribution that its judge gets, and published in the model card.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import torch
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from envs.cascade.votes import read_verdict
from envs.domains import coding
from envs.domains.spec import Pair
from envs.problems.nano import DOMAINS, Domain, NanoProblem, generate
from policies.engines.transformers import TransformersEngine
from svd_loop import contracts
from svd_loop.contracts import FinishReason, GenerationRequest, Outcome, Problem, Sampling, VoteValue
from svd_loop.nano.corpus import Role, prompt

MAX_NEW_TOKENS: dict[Role, int] = {
    "solver": 56,
    "question_inferrer": 40,
    "question_comparer": 48,
    "fact_checker": 64,
    "grader": 64,
}
"""Length of the longest reply in nano's training data, plus a fifth."""

STAGES = ("cycle_consistency", "factuality", "correctness")
_VOTES = 3
_BOXED = re.compile(r"\\boxed\{([^{}]*)\}")
_TEST_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Answered:
    """One reply: its text and its length in tokens."""

    text: str
    tokens: int
    finished: bool


class Sampler:
    """Samples replies of the checkpoint to many prompts of one role."""

    def __init__(self, checkpoint: Path, seed: int) -> None:
        self._tokenizer = PreTrainedTokenizerFast.from_pretrained(checkpoint)
        model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32, trust_remote_code=False)
        stop = self._tokenizer.eos_token_id
        self._engine = TransformersEngine(model, stop_ids=[stop], pad_id=self._tokenizer.pad_token_id)
        self._seed = seed

    def ask(self, role: Role, texts: Sequence[str], temperature: float = 1.0) -> list[Answered]:
        """Return one reply to every text; repeated texts get different seeds and so different samples."""
        sampling = Sampling(MAX_NEW_TOKENS[role], temperature)
        requests = [GenerationRequest(self._encode(text), sampling, self._next_seed()) for text in texts]
        return [
            Answered(
                str(self._tokenizer.decode(list(reply.token_ids), skip_special_tokens=True)),
                len(reply.token_ids),
                reply.finish_reason.value == "stop",
            )
            for reply in self._engine.generate(requests, label=role)
        ]

    def _encode(self, text: str) -> tuple[int, ...]:
        chat = [{"role": "user", "content": text}]
        rendered = self._tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
        return tuple(self._tokenizer(str(rendered), add_special_tokens=False)["input_ids"])

    def _next_seed(self) -> int:
        self._seed += 1
        return self._seed


def measure(
    checkpoint: Path, *, problems: int = 60, samples: int = 16, judged: int = 8, seed: int = 0
) -> dict[str, object]:
    """Measure a checkpoint on development problems.

    Args:
        checkpoint: folder of the model.
        problems: number of problems per domain.
        samples: solutions per problem, for pass@1 and pass@samples.
        judged: solutions per problem that the full cascade judges, at most ``samples``.
        seed: seed of problems and sampling.
    """
    sampler = Sampler(checkpoint, seed * 1_000_003)
    by_domain = {domain: generate(domain, "development", problems, seed) for domain in DOMAINS}
    beyond = {domain: generate(domain, "test", problems, seed, levels=(4,)) for domain in DOMAINS}
    flat = [problem for domain in DOMAINS for problem in by_domain[domain]]
    asked = [problem for problem in flat for _ in range(samples)]
    solved = sampler.ask("solver", [prompt("solver", question=p.question) for p in asked])
    right = score([(answer.text, problem) for answer, problem in zip(solved, asked, strict=True)])
    chosen = [i for i in range(len(asked)) if i % samples < judged and solved[i].finished]
    votes = judge(sampler, [(asked[i], solved[i].text) for i in chosen])
    return {
        "problems_per_domain": problems,
        "samples_per_problem": samples,
        "votes_per_stage": _VOTES,
        "solving": _solving(asked, right, solved, samples),
        "greedy": _greedy(sampler, by_domain),
        "greedy_level_4": _greedy(sampler, beyond),
        "judging": _judging([asked[i] for i in chosen], [right[i] for i in chosen], votes),
        "invalid": dict(votes.invalid),
        "tokens": {"solver": _mean_tokens(solved), **votes.tokens},
    }


@dataclass(frozen=True, slots=True)
class Votes:
    """Votes and mean reply lengths by role; ``yes[stage][c][v]`` is whether vote v on candidate c is yes."""

    yes: Mapping[str, list[list[bool]]]
    invalid: Mapping[str, float]
    tokens: Mapping[str, float]


def judge(sampler: Sampler, candidates: Sequence[tuple[NanoProblem, str]], votes: int = _VOTES) -> Votes:
    """Cast every vote of every stage on every candidate, without early exit, because the rates need all votes."""
    pairs = [pair for pair in candidates for _ in range(votes)]
    inferred = sampler.ask("question_inferrer", [prompt("question_inferrer", solution=text) for _, text in pairs])
    compared = sampler.ask(
        "question_comparer",
        [
            prompt("question_comparer", question=problem.question, inferred=answer.text)
            for (problem, _), answer in zip(pairs, inferred, strict=True)
        ],
    )
    direct: dict[Role, list[Answered]] = {
        role: sampler.ask(role, [prompt(role, question=p.question, solution=text) for p, text in pairs])
        for role in ("fact_checker", "grader")
    }
    replies = dict(zip(STAGES, (compared, direct["fact_checker"], direct["grader"]), strict=True))
    verdicts = {stage: [_verdict(answer) for answer in answers] for stage, answers in replies.items()}
    return Votes(
        yes={
            stage: [[v is VoteValue.YES for v in flat[i : i + votes]] for i in range(0, len(flat), votes)]
            for stage, flat in verdicts.items()
        },
        invalid={stage: _rate(v is VoteValue.INVALID for v in flat) for stage, flat in verdicts.items()},
        tokens={
            role: _mean_tokens(answers)
            for role, answers in (("question_inferrer", inferred), ("question_comparer", compared), *direct.items())
        },
    )


def _mean_tokens(answers: Sequence[Answered]) -> float:
    """Mean length, 0 when nothing was asked: a model that is no good yet has no complete solution to judge."""
    return round(fmean(answer.tokens for answer in answers), 1) if answers else 0.0


def score(pairs: Sequence[tuple[str, NanoProblem]]) -> list[bool]:
    """Whether each solution is right.

    Plain equality is enough for answers, since nano writes them in one form only. Programs are run as evaluation runs
    them, because generated code is not trusted.

    Raises:
        SandboxError: programs cannot be contained on this machine.
    """
    right = [False] * len(pairs)
    programs: dict[int, Pair] = {}
    for index, (text, problem) in enumerate(pairs):
        if problem.domain == "coding":
            programs[index] = text, Problem(problem.id, problem.question, contracts.Domain.CODING, tests=problem.tests)
        else:
            found = _BOXED.findall(text)
            right[index] = bool(found) and found[-1] == problem.answer
    outcomes = coding.score_all(list(programs.values()), seconds=_TEST_SECONDS)
    for index, outcome in zip(programs, outcomes, strict=True):
        right[index] = outcome is Outcome.RIGHT
    return right


def _verdict(answer: Answered) -> VoteValue:
    return read_verdict(answer.text, FinishReason.STOP if answer.finished else FinishReason.LENGTH)


def _solving(
    asked: Sequence[NanoProblem], right: Sequence[bool], solved: Sequence[Answered], samples: int
) -> dict[str, dict[str, float]]:
    """Return pass@1, pass@samples and the shares of both styles, by domain and overall."""
    groups: dict[str, list[int]] = {"overall": list(range(len(asked)))}
    for domain in DOMAINS:
        groups[domain] = [i for i, problem in enumerate(asked) if problem.domain == domain]
    table = {}
    for name, indices in groups.items():
        leaps = [i for i in indices if solved[i].text.startswith(("\\boxed", "```"))]
        derived = sorted(set(indices) - set(leaps))
        table[name] = {
            "pass@1": _rate(right[i] for i in indices),
            f"pass@{samples}": _rate(any(right[i : i + samples]) for i in indices if i % samples == 0),
            "leap_share": round(len(leaps) / len(indices), 4),
            "leap_right": _rate(right[i] for i in leaps),
            "derive_right": _rate(right[i] for i in derived),
            "truncated": _rate(not solved[i].finished for i in indices),
        }
    return table


def _greedy(sampler: Sampler, by_domain: Mapping[Domain, Sequence[NanoProblem]]) -> dict[str, float]:
    table = {}
    for domain, problems in by_domain.items():
        texts = [prompt("solver", question=problem.question) for problem in problems]
        replies = sampler.ask("solver", texts, temperature=0.0)
        table[str(domain)] = _rate(score([(r.text, p) for r, p in zip(replies, problems, strict=True)]))
    return table


def _judging(
    problems: Sequence[NanoProblem], right: Sequence[bool], votes: Votes
) -> dict[str, dict[str, dict[str, float]]]:
    """Return the rates per vote and stage, and those of the full cascade, by domain and overall."""
    groups: dict[str, list[int]] = {"overall": list(range(len(problems)))}
    for domain in DOMAINS:
        groups[domain] = [i for i, problem in enumerate(problems) if problem.domain == domain]
    table: dict[str, dict[str, dict[str, float]]] = {}
    for name, indices in groups.items():
        good, bad = [i for i in indices if right[i]], [i for i in indices if not right[i]]
        table[name] = {
            stage: {
                "true_positive": _rate(vote for i in good for vote in yes[i]),
                "false_positive": _rate(vote for i in bad for vote in yes[i]),
            }
            for stage, yes in votes.yes.items()
        }
        accepted = [i for i in indices if all(all(yes[i]) for yes in votes.yes.values())]
        table[name]["cascade"] = {
            "raw": _rate(right[i] for i in indices),
            "precision": _rate(right[i] for i in accepted),
            "recall": _rate(i in set(accepted) for i in good),
            "accepted": round(len(accepted) / max(1, len(indices)), 4),
        }
    return table


def _rate(outcomes: Iterable[bool]) -> float:
    """Return the share of true outcomes; 0 if there are none."""
    values = list(outcomes)
    return round(sum(values) / len(values), 4) if values else 0.0

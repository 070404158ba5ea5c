"""Held-out measurement: the only module that reads gold answers and tests.

Problems are sampled with the purpose of their split and round 0, whatever the job's round, so that every version
answers with the same seeds and rounds can be compared problem by problem. Scoring is `envs.domains`; this module
groups, counts and adds intervals to the counts, always over problems (`svd_loop.support.statistics`).
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from envs.cascade.agreement import AnswerComparison
from envs.cascade.votes import answer_of
from envs.domains import Pair, domain_of
from svd_loop.config.domains import DomainSection, section_of
from svd_loop.config.sections import EvaluationSection
from svd_loop.contracts import (
    BUILT_IN_DOMAINS,
    Candidate,
    DomainName,
    Estimate,
    FinishReason,
    Half,
    Outcome,
    Policy,
    Problem,
    Prompt,
    Scores,
    Solver,
)
from svd_loop.errors import DataError, EngineError
from svd_loop.support.listing import listing
from svd_loop.support.statistics import FloatArray, bootstrap_mean, pass_at_k, pass_at_k_of_decided

OVERALL = "overall"
_NAMED_IDS = 5
"""Ids named in an error; the rest are counted."""


@dataclass(frozen=True, slots=True)
class Solution:
    """A solution from a file; `where` is `file:line` for messages."""

    problem_id: str
    text: str
    where: str = ""


class Evaluator:
    """Samples and scores a policy on held-out problems."""

    def __init__(
        self, problems: Mapping[str, Sequence[Problem]], solver: Solver, settings: EvaluationSection, seed: int = 0
    ) -> None:
        """Store the problems and settings.

        Args:
            problems: by split (`development`, `test`).
            solver: samples solutions.
            settings: number of samples, and metrics.
            seed: of the bootstrap; the samples' seeds are the policy's.
        """
        self._problems = problems
        self._solver = solver
        self._settings = settings
        self._seed = seed

    def evaluate(self, policy: Policy, split: str) -> Scores:
        """Scores with, beside pass@k, the rate of `truncated` samples and their mean `output_tokens`.

        Raises:
            DataError: the split has no problems, or one that cannot be scored.
            SandboxError: coding programs cannot be contained on this machine.
        """
        problems = self._problems.get(split, ())
        if not problems:
            raise DataError(f"evaluation: there are no held-out problems in `{split}` (data.{split})")
        prompts = [problem.as_prompt() for problem in problems]
        samples = range(self._settings.samples)
        candidates = self._solver.sample(policy, prompts, samples, round=0, purpose=split)
        by_problem = _by_problem(candidates, problems, self._settings.samples)
        texts = [[candidate.text for candidate in group] for group in by_problem]
        extra = {
            "truncated": _means(by_problem, lambda candidate: candidate.finish_reason is FinishReason.LENGTH),
            "output_tokens": _means(by_problem, lambda candidate: len(candidate.token_ids)),
        }
        return _scores(problems, texts, split, self._settings, self._seed, extra)

    def count(self, policy: Policy, half: Half, indices: Sequence[int]) -> list[tuple[int, int]]:
        """Of each problem of one half of the development split: right samples among `indices`, and decided ones.

        The choosing half has samples of its own. Those of the confirming half are the samples that `evaluate` draws.
        """
        places = slice(0, None, 2) if half is Half.CHOOSING else slice(1, None, 2)
        problems = self._problems["development"][places]
        purpose = "choice" if half is Half.CHOOSING else "development"
        prompts = [problem.as_prompt() for problem in problems]
        candidates = self._solver.sample(policy, prompts, indices, round=0, purpose=purpose)
        groups = _by_problem(candidates, problems, len(indices))
        pairs = [(one.text, problem) for group, problem in zip(groups, problems, strict=True) for one in group]
        outcomes = score_pairs(pairs, self._settings.test_seconds, self._settings.domains)
        by_problem = [outcomes[start : start + len(indices)] for start in range(0, len(outcomes), len(indices))]
        return [(found.count(Outcome.RIGHT), len(found) - found.count(Outcome.UNDECIDED)) for found in by_problem]


def problems_digest(problems: Iterable[Problem]) -> str:
    """Digest of held-out problems with their gold, in hex; scores with equal digests are of the same problems."""
    rows = sorted([problem.id, problem.domain, problem.answer, list(problem.tests)] for problem in problems)
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def read_solutions(path: Path) -> list[Solution]:
    """Read `{"id", "solution"}` lines; empty lines are skipped.

    Raises:
        DataError: naming file and line.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")  # splitlines() also splits at U+2028 and the like
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from None
    return [_parse_solution(line, f"{path}:{number}") for number, line in enumerate(lines, 1) if line.strip()]


def score_solutions(
    problems: Sequence[Problem],
    solutions: Iterable[Solution],
    settings: EvaluationSection,
    *,
    split: str,
    seed: int = 0,
) -> Scores:
    """Score solutions that need no model: the same number, one or more, for every problem.

    Their ids are those that the held-out rows have in their file, or the problems' own (`Problem.id`).

    `settings.samples` is not used; of `settings.pass_at` those k are reported that the number of solutions allows.

    Raises:
        DataError: an id is unknown or missing, or problems have different numbers of solutions.
    """
    texts: dict[str, list[str]] = {problem.id: [] for problem in problems}
    known = {problem.id: problem.id for problem in problems}
    known |= {problem.own_id: problem.id for problem in problems if problem.own_id}
    for solution in solutions:
        if solution.problem_id not in known:
            some = listing(solution.problem_id, (problem.own_id or problem.id for problem in problems), most=5)
            raise DataError(
                f"{solution.where}: there is no problem with the id {solution.problem_id!r} in `{split}`; "
                f"ids are those of the held-out file: {some}"
            )
        texts[known[solution.problem_id]].append(solution.text)
    if missing := [problem.own_id or problem.id for problem in problems if not texts[problem.id]]:
        raise DataError(f"solutions: {len(missing)} of {len(texts)} problems have none: {_named(missing)}")
    counts = Counter(len(group) for group in texts.values())
    if len(counts) != 1:
        found = ", ".join(f"{count} for {times}" for count, times in sorted(counts.items()))
        raise DataError(f"solutions: every problem needs the same number of them, found {found} problems")
    samples = next(iter(counts))
    pass_at = tuple(k for k in settings.pass_at if k <= samples)
    fitting = settings.model_copy(update={"samples": samples, "pass_at": pass_at})
    return _scores(problems, list(texts.values()), split, fitting, seed, {})


def final_answer(prompt: Prompt, text: str, domains: Sequence[DomainSection] = ()) -> str | None:
    """The final answer (or program) in a solution, extracted as in scoring; None if it has none."""
    return domain_of(prompt.domain, domains).extract(text)


def same_answers(pairs: Sequence[tuple[Prompt, str, str]], domains: Sequence[DomainSection] = ()) -> list[Outcome]:
    """Whether two solutions of a prompt have the same final answer; compared as in scoring, without gold.

    RIGHT means the same, WRONG another. Programs are compared as they are written, since they cannot be run without
    tests. A solution without an answer agrees with none.
    """
    answers = [final_answer(prompt, answer_of(one), domains) for prompt, one, _ in pairs]
    same = [Outcome.WRONG] * len(pairs)
    scored: list[tuple[int, Pair]] = []
    for place, ((prompt, _, other), answer) in enumerate(zip(pairs, answers, strict=True)):
        if answer is not None and section_of(prompt.domain).gold == "tests":
            same[place] = Outcome.of(answer.split() == (final_answer(prompt, answer_of(other), domains) or "").split())
        elif answer is not None:
            scored.append((place, (other, Problem(prompt.id, prompt.text, prompt.domain, answer))))
    found = score_pairs([pair for _, pair in scored], 0.0, domains)
    for (place, _), result in zip(scored, found, strict=True):
        same[place] = result
    return same


def answer_comparison(domains: Sequence[DomainSection] = ()) -> AnswerComparison:
    """How final answers are found and compared without gold, for agreement among candidates."""
    return AnswerComparison(partial(final_answer, domains=domains), partial(same_answers, domains=domains))


def score_pairs(pairs: Sequence[Pair], test_seconds: float, domains: Sequence[DomainSection] = ()) -> list[Outcome]:
    """Score solutions by the text behind their thought; all solutions of a domain are scored in one call."""
    places: dict[DomainName, list[int]] = defaultdict(list)
    for place, (_, problem) in enumerate(pairs):
        places[problem.domain].append(place)
    found = [Outcome.UNDECIDED] * len(pairs)
    for domain, domain_places in places.items():
        results = domain_of(domain, domains).score_all(
            [(answer_of(pairs[place][0]), pairs[place][1]) for place in domain_places], seconds=test_seconds
        )
        for place, result in zip(domain_places, results, strict=True):
            found[place] = result
    return found


def _scores(
    problems: Sequence[Problem],
    texts_M_K: Sequence[Sequence[str]],
    split: str,
    settings: EvaluationSection,
    seed: int,
    extra_M: Mapping[str, FloatArray],
) -> Scores:
    """Count correct samples and estimate every metric overall and by domain; `extra_M` are metrics by problem."""
    pairs = [(text, problem) for problem, texts in zip(problems, texts_M_K, strict=True) for text in texts]
    outcomes = np.array(score_pairs(pairs, settings.test_seconds, settings.domains), dtype=object).reshape(
        len(problems), -1
    )
    correct_M, undecided_M = ((outcomes == outcome).sum(axis=1) for outcome in (Outcome.RIGHT, Outcome.UNDECIDED))
    metrics_M = dict(extra_M) | {"undecided": undecided_M / settings.samples}
    domains_M = np.array([problem.domain for problem in problems])
    groups = {OVERALL: np.ones(len(problems), dtype=bool)}
    groups |= {domain: domains_M == domain for domain in _in_order({problem.domain for problem in problems})}

    def estimate(values: FloatArray) -> Estimate:
        return bootstrap_mean(values, confidence=settings.confidence, resamples=settings.resamples, seed=seed)

    def passes(members: npt.NDArray[np.bool_], k: int) -> Estimate:
        return estimate_pass_at_k(correct_M[members], undecided_M[members], settings.samples, k, estimate)

    return Scores(
        split=split,
        samples=settings.samples,
        problem_ids=tuple(problem.id for problem in problems),
        domains=tuple(problem.domain for problem in problems),
        correct=tuple(int(count) for count in correct_M),
        estimates={
            group: {f"pass@{k}": passes(members, k) for k in settings.pass_at}
            | {metric: estimate(values[members]) for metric, values in metrics_M.items()}
            for group, members in groups.items()
        },
        undecided=tuple(int(count) for count in undecided_M) if undecided_M.any() else (),
    )


def _in_order(domains: set[DomainName]) -> list[DomainName]:
    """The built-in domains first, then the others by name."""
    return sorted(domains, key=lambda name: (BUILT_IN_DOMAINS.index(name) if name in BUILT_IN_DOMAINS else 9, name))


def estimate_pass_at_k(
    correct_M: npt.NDArray[np.int64],
    undecided_M: npt.NDArray[np.int64],
    samples: int,
    k: int,
    estimate: Callable[[FloatArray], Estimate],
) -> Estimate:
    """Pass@k of the decided samples, with an interval that covers every result of the undecided ones.

    Its low end is that of the estimate with every undecided sample wrong, its high end that with every one right.
    """
    figure = estimate(pass_at_k_of_decided(correct_M, undecided_M, samples, k))
    if not undecided_M.any():
        return figure
    low, high = (estimate(pass_at_k(counts, samples, k)) for counts in (correct_M, correct_M + undecided_M))
    return Estimate(figure.value, low.low, high.high)


def _by_problem(
    candidates: Sequence[Candidate], problems: Sequence[Problem], samples: int
) -> list[Sequence[Candidate]]:
    """Split the solver's prompt-major answer into K candidates a problem, checking that it is one."""
    wanted = [problem.id for problem in problems for _ in range(samples)]
    if wanted != [candidate.prompt_id for candidate in candidates]:
        raise EngineError(f"evaluation: {len(wanted)} solutions were asked for, {len(candidates)} others came back")
    return [candidates[start : start + samples] for start in range(0, len(wanted), samples)]


def _means(candidates_M_K: Sequence[Sequence[Candidate]], measure: Callable[[Candidate], float]) -> FloatArray:
    values = [[float(measure(candidate)) for candidate in group] for group in candidates_M_K]
    return np.asarray(np.mean(values, axis=1), dtype=np.float64)


def _parse_solution(line: str, where: str) -> Solution:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: not a JSON object: {error}") from None
    if not isinstance(row, dict):
        raise DataError(f"{where}: not a JSON object but {type(row).__name__}")
    own_id = row.get("id")
    if isinstance(own_id, bool) or not isinstance(own_id, str | int):
        raise DataError(f"{where}: needs `id` as text or a whole number, found {own_id!r:.60}")
    if not isinstance(row.get("solution"), str):
        raise DataError(f"{where}: needs `solution` as text, found {row.get('solution')!r:.60}")
    return Solution(str(own_id), row["solution"], where)


def _named(ids: Sequence[str]) -> str:
    shown = ", ".join(dict.fromkeys(ids[:_NAMED_IDS]))
    return f"{shown} and {len(ids) - _NAMED_IDS} more" if len(ids) > _NAMED_IDS else shown

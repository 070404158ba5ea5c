"""The enumerations of the project."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

THOUGHT_MARKS = ("<think>", "</think>")
"""The marks around a thought in `Reply.text` and `Candidate.text`, for every model."""


DomainName = str
"""A registered domain (`svd_loop.config.domains.DOMAINS`): one of `Domain`, or one that another package provides."""


class Domain:
    """Names of the built-in domains."""

    MATH: Final = "math"
    SCIENCE: Final = "science"
    CODING: Final = "coding"


BUILT_IN_DOMAINS: tuple[DomainName, ...] = (Domain.MATH, Domain.SCIENCE, Domain.CODING)
"""The built-in domains in the order of tables."""


RoleName = str
"""A role in which the policy is called: one of `Role`, or one that a stage of another package calls."""


class Role:
    """Roles in which the policy is called."""

    SOLVER: Final = "solver"
    QUESTION_INFERRER: Final = "question_inferrer"
    QUESTION_COMPARER: Final = "question_comparer"
    FACT_CHECKER: Final = "fact_checker"
    GRADER: Final = "grader"
    FACT_REVIEWER: Final = "fact_reviewer"
    ANSWER_REVIEWER: Final = "answer_reviewer"
    QUESTION_REVIEWER: Final = "question_reviewer"
    FACT_COMPARER: Final = "fact_comparer"
    ANSWER_COMPARER: Final = "answer_comparer"
    REFERENCE_SOLVER: Final = "reference_solver"
    VERDICT_GIVER: Final = "verdict_giver"


BUILT_IN_ROLES: tuple[RoleName, ...] = (
    Role.SOLVER,
    Role.QUESTION_INFERRER,
    Role.QUESTION_COMPARER,
    Role.FACT_CHECKER,
    Role.GRADER,
)
"""In the order in which the paper calls them; other ways of asking call others of `Role`."""


class Asking(StrEnum):
    """How a vote of a built-in stage is asked (`envs.cascade.check`)."""

    DIRECT = "direct"
    THINK = "think"
    TWO_TURNS = "two_turns"
    SOLVE_FIRST = "solve_first"


StageName = str
"""A stage of the cascade (`svd_loop.config.stages.STAGES`): one of `Stage`, or one that another package provides."""


class Stage:
    """The stages of the cascade: three in the paper's order, and agreement, which asks no judge."""

    CYCLE_CONSISTENCY: Final = "cycle_consistency"
    FACTUALITY: Final = "factuality"
    CORRECTNESS: Final = "correctness"
    AGREEMENT: Final = "agreement"


BUILT_IN_STAGES: tuple[StageName, ...] = (Stage.CYCLE_CONSISTENCY, Stage.FACTUALITY, Stage.CORRECTNESS)
"""The stages that ask a judge, in the paper's order."""


class VoteValue(StrEnum):
    """The value of a judge's reply. A reply without a readable verdict is INVALID, never NO."""

    YES = "yes"
    NO = "no"
    INVALID = "invalid"


class Outcome(StrEnum):
    """The result of scoring one solution.

    UNDECIDED means that the scorer has no result: a limit of time or memory was reached, or a tool failed. It says
    nothing about the solution and is never counted as WRONG. An outcome has no truth value, since "not right" and
    "wrong" differ: compare it with a member.
    """

    RIGHT = "right"
    WRONG = "wrong"
    UNDECIDED = "undecided"

    @classmethod
    def of(cls, right: bool) -> Outcome:
        """The outcome of a question that was decided."""
        return cls.RIGHT if right else cls.WRONG

    def __bool__(self) -> bool:
        raise TypeError("an outcome has three values and no truth value: compare it with Outcome.RIGHT")


class FinishReason(StrEnum):
    """Why generation ended: a stop token, or the token limit (the text is truncated)."""

    STOP = "stop"
    LENGTH = "length"


class Rejection(StrEnum):
    """Why a candidate was rejected without, or beside, a vote."""

    TRUNCATED = "truncated"
    EMPTY = "empty"
    STATIC = "static"
    VOTE = "vote"
    NOT_SELECTED_AT_RANDOM = "not_selected_at_random"
    OUTVOTED = "outvoted"
    LESS_CERTAIN = "less_certain"
    GOLD = "gold"
    UNDECIDED = "undecided"


class Selection(StrEnum):
    """Which accepted candidates of a prompt become training rows."""

    FIRST_VALID = "first_valid"
    ALL_VALID = "all_valid"


class StopReason(StrEnum):
    """Why a job ended."""

    PLATEAU = "plateau"
    REGRESSION = "regression"
    NOTHING_ACCEPTED = "nothing_accepted"
    ROUND_LIMIT = "round_limit"
    BUDGET = "budget"
    JUDGE_UNHEALTHY = "judge_unhealthy"
    NO_VERIFIER = "no_verifier"
    INTERRUPTED = "interrupted"


class AlarmAction(StrEnum):
    """The effect of an alarm about a round's judge."""

    WARN = "warn"
    STOP = "stop"
    ROLLBACK = "rollback"


class UsagePurpose(StrEnum):
    """Purpose of the calls of a round, by which usage is counted."""

    ROUND = "round"
    """Sampling candidates and voting on them."""
    CANARY = "canary"
    """Measuring the judge without gold: canaries, and the user's labelled answers."""
    JUDGE_ROWS = "judge_rows"
    """Judgements asked for as training rows (`update.judge_rows`)."""
    VERIFIERS = "verifiers"
    """The verifier test of round 0."""
    CHOICE = "choice"
    """Comparing the checkpoints of an update."""
    EVALUATION = "evaluation"
    """Held-out problems, and the audit of the judge on them."""


class Half(StrEnum):
    """The halves of the development problems when checkpoints of an update are compared: every other problem each."""

    CHOOSING = "choosing"
    """Problems on which the best checkpoint is found."""
    CONFIRMING = "confirming"
    """Problems on which it is compared with the last one, and which had no part in finding it."""


class HealthMeasure(StrEnum):
    """The measures of judge health; `svd_loop.loop.health_rule` explains each."""

    FALSE_ACCEPT = "false_accept"
    TRUE_POSITIVE = "true_positive"
    FALSE_POSITIVE = "false_positive"
    INVALID = "invalid"
    AGREEMENT = "agreement"
    ACCEPTED = "accepted"
    DISTINCT = "distinct"
    DRIFT = "drift"
    DRIFT_TO_YES = "drift_to_yes"
    DRIFT_TO_NO = "drift_to_no"
    LENGTH_RATIO = "length_ratio"

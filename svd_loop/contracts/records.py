"""The records that one layer passes to the next. All are frozen, and do no more than derive names and seeds.

Axis legend, used in the names of nested collections everywhere:
`P` prompts, `N` candidates of a prompt, `C` candidates (flat), `S` stages, `V` votes of a stage,
`M` held-out problems, `K` samples of a problem.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from svd_loop.contracts.figures import Estimate
from svd_loop.contracts.token_ids import shared_ids
from svd_loop.contracts.words import (
    DomainName,
    FinishReason,
    Outcome,
    Rejection,
    RoleName,
    StageName,
    VoteValue,
)


@dataclass(frozen=True, slots=True)
class Prompt:
    """An unlabeled training question. `id` is derived from the content; `source` is `file:line`."""

    id: str
    text: str
    domain: DomainName
    source: str = ""


@dataclass(frozen=True, slots=True)
class Problem:
    """A held-out question with gold: `answer`, or `tests` for coding (see `envs.prompts.program_tests`).

    Read by evaluation only. `own_id` is the id that its file gives it; empty if there is none.
    """

    id: str
    text: str
    domain: DomainName
    answer: str = ""
    tests: tuple[str, ...] = ()
    source: str = ""
    own_id: str = ""

    def as_prompt(self) -> Prompt:
        """The question without its gold, as the policy sees it."""
        return Prompt(self.id, self.text, self.domain, self.source)


@dataclass(frozen=True, slots=True)
class PolicyVersion:
    """The weights that wrote something: the round that produced them and their fingerprint (hex)."""

    round: int
    fingerprint: str

    @property
    def name(self) -> str:
        """Folder and display name, e.g. `round-003`."""
        return f"round-{self.round:03d}"


@dataclass(frozen=True, slots=True)
class Sampling:
    """Sampling parameters of one role. `top_k` 0 and `top_p` 1.0 mean off; temperature 0 is greedy.

    `thinking` and `max_answer` (tokens of the final answer, None for no separate limit) are used by the policy:
    engines do not read them.
    """

    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    thinking: bool = False
    max_answer: int | None = None

    @property
    def longest_answer(self) -> int:
        """Most tokens that a complete final answer can have."""
        return self.max_tokens if self.max_answer is None else min(self.max_answer, self.max_tokens)


@dataclass(frozen=True, slots=True)
class Message:
    """One chat turn."""

    role: str
    content: str


NO_CANDIDATE = -1
"""`CallId.candidate` of a judge's call that all candidates of a prompt share."""


@dataclass(frozen=True, slots=True)
class CallId:
    """The identity of a call, independent of the version that answers it.

    `purpose` separates namespaces that must never share an answer: `train` for the loop, `development`
    and `test` for held-out evaluation, `choice` for comparing checkpoints, `canary` for planted candidates.
    `candidate` is `NO_CANDIDATE` where a judge's call belongs to the prompt. `attempt` counts repeats of an invalid
    vote.
    """

    purpose: str
    round: int
    role: RoleName
    prompt_id: str
    candidate: int = 0
    stage: str = ""
    vote: int = 0
    attempt: int = 0

    def seed(self, job_seed: int) -> int:
        """A 63-bit seed: SHA-256 over the job seed and every field, so order and batching do not matter."""
        parts = (
            job_seed,
            self.purpose,
            self.round,
            self.role,
            self.prompt_id,
            self.candidate,
            self.stage,
            self.vote,
            self.attempt,
        )
        digest = hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()
        return int.from_bytes(digest[:8], "big") >> 1


@dataclass(frozen=True, slots=True)
class AgentCall:
    """One call of the policy in one role: rendered messages and the version of their template.

    `choices` are the only texts that the answer may be; empty leaves it free.
    """

    id: CallId
    messages: tuple[Message, ...]
    template_version: str
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Reply:
    """The policy's reply.

    `prompt_ids` and `token_ids` are exactly the input and the output (the stop token included when
    `finish_reason` is STOP); `text` is the decoded answer without special tokens, a thought between `THOUGHT_MARKS`,
    the opening one written out where the prompt had opened the thought. `cached_tokens` of the prompt were not read for
    it; a ledger does not store them, so a reply that comes from one has none.
    """

    call: CallId
    text: str
    finish_reason: FinishReason
    policy: PolicyVersion
    prompt_ids: tuple[int, ...] = ()
    token_ids: tuple[int, ...] = ()
    prompt_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = field(default=0, compare=False)

    def as_candidate(self) -> Candidate:
        """The candidate that a solver's reply is."""
        return Candidate(
            self.call.prompt_id,
            self.call.candidate,
            self.text,
            self.finish_reason,
            self.policy,
            self.prompt_ids,
            shared_ids(self.token_ids),
        )


@dataclass(frozen=True, slots=True)
class Choice:
    """One answer of a row that may give no others: its text, and its token ids, which end with a stop token."""

    text: str
    token_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One row for an engine: prompt ids, sampling parameters, and this row's own seed.

    With `choices` the answer is one of them: each token is sampled among those that can continue a choice.
    """

    prompt_ids: tuple[int, ...]
    sampling: Sampling
    seed: int
    choices: tuple[Choice, ...] = ()


@dataclass(frozen=True, slots=True)
class Generation:
    """An engine's answer: sampled ids, the stop token included when `finish_reason` is STOP.

    `cached_tokens` are the prompt tokens that were not read for it: those of an equal prompt in the same batch, and
    those of a known prefix. They depend on what else was asked, so answers are compared without them.
    """

    token_ids: tuple[int, ...]
    finish_reason: FinishReason
    cached_tokens: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Candidate:
    """One sampled solution of a prompt; `index` is its place among the prompt's n candidates.

    `stored` is where a ledger has text, prompt ids and token ids (`Shelf`); these may then be empty here.
    """

    prompt_id: str
    index: int
    text: str
    finish_reason: FinishReason = FinishReason.STOP
    policy: PolicyVersion | None = None
    prompt_ids: tuple[int, ...] = ()
    token_ids: tuple[int, ...] = ()
    stored: tuple[int, int, int] | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Vote:
    """One vote of the judge on one candidate for one stage, with the judge's text.

    `stored` is where a ledger has the text (`Shelf`); it is then empty here.
    """

    prompt_id: str
    candidate: int
    stage: StageName
    vote: int
    value: VoteValue
    text: str = ""
    stored: int | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Accepted, or rejected with the reason (and the stage and vote, when a vote did it)."""

    prompt_id: str
    candidate: int
    accepted: bool
    rejection: Rejection | None = None
    stage: StageName | None = None
    vote: int | None = None
    votes: tuple[Vote, ...] = ()


@dataclass(frozen=True, slots=True)
class Episode:
    """A finished round of sampling and judging.

    `candidates` may be read from a ledger when they are iterated over (`svd_loop.support.shelved`).

    `selected` are the candidates that become training rows (first-valid or all-valid);
    `funnel` counts candidates by what happened to them, in order: generated, complete, then those
    still alive after each stage; `metrics` are further figures of the round by dotted name, such as the order in which
    votes were asked.
    """

    round: int
    prompts: int
    candidates: Sequence[Candidate]
    verdicts: tuple[Verdict, ...]
    selected: tuple[Candidate, ...]
    funnel: Mapping[str, int] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)

    @property
    def accepted(self) -> int:
        """Number of prompts with at least one accepted candidate."""
        return len({candidate.prompt_id for candidate in self.selected})


@dataclass(frozen=True, slots=True)
class TrainingRow:
    """One supervised row: exact token ids, loss on `input_ids[supervised_from:]` only.

    `origin` is `accepted` (from the round and prompt), `anchor` or `judge` (`JudgeRow`); outside the supervised rows
    `refused` or `sibling`.
    """

    input_ids: tuple[int, ...]
    supervised_from: int
    origin: str
    prompt_id: str = ""
    candidate: int = 0
    round: int = 0
    domain: str = ""


@dataclass(frozen=True, slots=True)
class RefusedRow:
    """A refused candidate of the round as a row.

    `stage` is the one that refused it (or `static` or `truncated`), `yes` the number of its yes votes, of all stages,
    before the vote that did.
    """

    row: TrainingRow
    stage: str
    yes: int = 0


@dataclass(frozen=True, slots=True)
class JudgeRow:
    """A judge's own reply as a row, whose verdict was inferred without labels.

    `stage` is the vote's; `value` is the verdict, None for a reply that prepares one, such as an inferred question;
    `reason` says what it is inferred from (`envs.judge_rows`). A planted candidate has a number of its own.
    """

    row: TrainingRow
    stage: StageName
    value: VoteValue | None
    reason: str


@dataclass(frozen=True, slots=True)
class UpdateMaterial:
    """The training data of an update algorithm.

    `rows` are the round's accepted rows with replayed ones and anchors, in training order. `refused` are the round's
    refused candidates, `siblings` its accepted candidates that were not selected, in whose place another one is a row;
    both are empty unless the algorithm learns from them (`AlgorithmSection.learns_from_refused`). An
    algorithm that learns from more (votes) gets it as further fields of this class.
    """

    rows: Sequence[TrainingRow]
    refused: Sequence[RefusedRow] = ()
    siblings: Sequence[TrainingRow] = ()


@dataclass(frozen=True, slots=True)
class UpdateResult:
    """A finished update: the new version, its folder, and training metrics.

    `candidates` are the steps of its stored checkpoints, in order, the last of them being the new version itself; empty
    if none were to be kept (`update.choose_from`).
    """

    version: PolicyVersion
    path: Path
    rows: int
    steps: int
    metrics: Mapping[str, float] = field(default_factory=dict)
    candidates: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Scores:
    """Held-out results of one policy version on one split.

    `problem_ids`, `domains`, `correct`, all of length M, are aligned: `correct[m]` of `samples` samples were right.
    `undecided[m]` of them could not be scored (time ran out, a tool failed); empty means none of any problem.
    A pass@k is of the decided samples; its interval reaches from every undecided one wrong to every one right.
    `estimates` maps `overall` or a domain to a metric (`pass@1`, `pass@4`, `greedy`, ...) to its estimate.
    """

    split: str
    samples: int
    problem_ids: tuple[str, ...]
    domains: tuple[str, ...]
    correct: tuple[int, ...]
    estimates: Mapping[str, Mapping[str, Estimate]] = field(default_factory=dict)
    undecided: tuple[int, ...] = ()

    @property
    def decided(self) -> tuple[int, ...]:
        """Samples of each problem that were scored right or wrong."""
        return tuple(self.samples - count for count in self.undecided or (0,) * len(self.correct))

    def resolved(self, outcome: Outcome) -> Scores:
        """The counts with every undecided sample set to this outcome; estimates are not changed."""
        undecided = self.undecided if outcome is Outcome.RIGHT else (0,) * len(self.undecided)
        correct = [one + more for one, more in zip(self.correct, undecided or (0,) * len(self.correct), strict=True)]
        return replace(self, correct=tuple(correct), undecided=())

    @property
    def pass_at_1(self) -> Estimate:
        """Overall pass@1."""
        return self.estimates["overall"]["pass@1"]

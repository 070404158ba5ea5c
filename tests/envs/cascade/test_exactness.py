"""Every way of asking gives the outcome that the whole table of votes gives, vote by vote.

The table is arbitrary: for each candidate, stage, vote and attempt a yes, a no or something that cannot be read. What
a candidate's fate should be is worked out from it in a few lines, without the cascade; then a round is played with
every combination of the settings that are said to be exact.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product

from hypothesis import given, settings
from hypothesis import strategies as st

from envs.cascade.audit_slice import in_slice
from envs.cascade.cascade import Cascade
from envs.cascade.ordering import Unit, paper_order
from envs.cascade.template_sets import TemplateSet
from envs.round_env import SelfVerificationEnv
from svd_loop.contracts import BUILT_IN_STAGES, AgentCall, Episode, Role, Stage, StageName, VoteValue
from tests.envs.judges import RulePolicy, prompt, settings_of

CHAT = TemplateSet.load("chat")
STAGE_OF = {
    Role.QUESTION_COMPARER: Stage.CYCLE_CONSISTENCY,
    Role.FACT_CHECKER: Stage.FACTUALITY,
    Role.GRADER: Stage.CORRECTNESS,
}
WORDS = {VoteValue.YES: "[[Y]]", VoteValue.NO: "[[N]]", VoteValue.INVALID: "hm"}
Place = tuple[int, int, Stage, int, int]
"""Prompt, candidate, stage, vote, attempt."""


@dataclass(frozen=True)
class Table:
    """What the judge says, whenever and beside whomever it is asked."""

    prompts: int
    n: int
    stages: tuple[StageName, ...]
    votes: int
    retries: int
    needed: int
    says: Mapping[Place, VoteValue]

    def value(self, prompt: int, candidate: int, stage: StageName, vote: int) -> VoteValue:
        """A vote: the first attempt that can be read, invalid without one."""
        attempts = [self.says[prompt, candidate, stage, vote, attempt] for attempt in range(1 + self.retries)]
        return next((value for value in attempts if value is not VoteValue.INVALID), VoteValue.INVALID)

    def accepts(self, prompt: int, candidate: int) -> bool:
        """Whether every stage gets its yes votes."""
        return all(
            sum(self.value(prompt, candidate, stage, vote) is VoteValue.YES for vote in range(self.votes))
            >= self.needed
            for stage in self.stages
        )

    def refusal(self, prompt: int, candidate: int, order: tuple[Unit, ...]) -> Unit | None:
        """The vote after which, in this order, the candidate cannot be accepted any more."""
        missing: Counter[StageName] = Counter()
        for stage, vote in order:
            missing[stage] += self.value(prompt, candidate, stage, vote) is not VoteValue.YES
            if missing[stage] > self.votes - self.needed:
                return stage, vote
        return None

    def judge(self) -> RulePolicy:
        """The table as a policy."""

        def rule(call: AgentCall) -> str:
            if call.id.role == Role.QUESTION_INFERRER:
                return "some question"
            where = int(call.id.prompt_id[1:]), call.id.candidate, STAGE_OF[call.id.role]
            return WORDS[self.says[*where, call.id.vote, call.id.attempt]]

        return RulePolicy(rule)


@st.composite
def tables(draw: st.DrawFn) -> Table:
    prompts, n, votes, retries = (draw(st.integers(low, high)) for low, high in ((1, 3), (1, 4), (1, 3), (0, 1)))
    stages = tuple(draw(st.permutations(list(BUILT_IN_STAGES)))[: draw(st.integers(1, 3))])
    places = list(product(range(prompts), range(n), stages, range(votes), range(1 + retries)))
    bias = draw(st.sampled_from(["YYYYYYYNI", "YYN", "YI", "YNI", "Y"]))
    values = draw(st.lists(st.sampled_from(bias), min_size=len(places), max_size=len(places)))
    by_letter = {"Y": VoteValue.YES, "N": VoteValue.NO, "I": VoteValue.INVALID}
    says = {place: by_letter[value] for place, value in zip(places, values, strict=True)}
    return Table(prompts, n, stages, votes, retries, draw(st.integers(1, votes)), says)


def played(table: Table, cascade: Cascade, judge: RulePolicy, block: int | None) -> Episode:
    """A round with the same candidates whatever the settings."""
    env = SelfVerificationEnv(
        prompts=[prompt(number) for number in range(table.prompts)],
        judge=judge,
        cascade=cascade,
        n=table.n,
        block=block,
        fill_rows=cascade.settings.fill_rows,
    )
    _, info = env.reset()
    while info["open"]:
        texts = [f"solution {index} of {place}" for place in info["open"] for index in info["indices"]]
        _, _, _, _, info = env.step(env.action(texts))
    episode: Episode = info["outcome"]
    return episode


@settings(max_examples=400, deadline=None)
@given(
    table=tables(),
    early_exit=st.booleans(),
    order=st.sampled_from(["stage_major", "measured"]),
    fill_rows=st.sampled_from([None, 1, 3, 8, 500]),
    block=st.sampled_from([None, 1, 2, 3]),
    audit_share=st.sampled_from([0.0, 0.3, 1.0]),
    data=st.data(),
)
def test_every_exact_combination_gives_what_the_table_gives(
    table: Table,
    early_exit: bool,
    order: str,
    fill_rows: int | None,
    block: int | None,
    audit_share: float,
    data: st.DataObject,
) -> None:
    units = paper_order(table.stages, table.votes)
    measured = tuple(data.draw(st.permutations(units))) if order == "measured" else units
    options = settings_of(
        table.stages,
        table.votes,
        early_exit=early_exit,
        invalid_retries=table.retries,
        order=order,
        audit_share=audit_share,
        at_least=table.needed,
        fill_rows=fill_rows,
    )
    cascade, judge = Cascade(CHAT, options, order_of=lambda round: measured), table.judge()
    episode = played(table, cascade, judge, block)

    chosen = {
        number: next((i for i in range(table.n) if table.accepts(number, i)), None) for number in range(table.prompts)
    }
    assert {c.prompt_id: c.index for c in episode.selected} == {
        f"p{number}": index for number, index in chosen.items() if index is not None
    }
    for verdict in episode.verdicts:
        number = int(verdict.prompt_id[1:])
        assert verdict.accepted == table.accepts(number, verdict.candidate)
        refusal = None if verdict.stage is None else (verdict.stage, verdict.vote)
        assert refusal == table.refusal(number, verdict.candidate, cascade.units(1))
        for vote in verdict.votes:
            assert vote.value is table.value(number, vote.candidate, vote.stage, vote.vote)
        whole = not early_exit or in_slice(audit_share, 0, 1, verdict.prompt_id, verdict.candidate)
        assert not whole or len(verdict.votes) == len(units)
    seen = {(v.prompt_id, v.candidate) for v in episode.verdicts}
    assert seen >= {(f"p{p}", i) for p in range(table.prompts) for i in range((chosen[p] or 0) + 1)}
    for call in judge.calls:  # a repeat is asked for what could not be read, and for nothing else
        if call.id.attempt and call.id.role != Role.QUESTION_INFERRER:
            where = int(call.id.prompt_id[1:]), call.id.candidate, STAGE_OF[call.id.role], call.id.vote
            assert table.says[*where, 0] is VoteValue.INVALID
    asked = [call.id for call in judge.calls]
    assert len(asked) == len(set(asked))

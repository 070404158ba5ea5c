"""One prompt of a round as a conversation: its candidates, their votes, and which call is worth asking next.

    sample ──> vote ──> vote ──> ... ──> verdict ──┬── block without an accepted candidate ──> next block
     (block)     │ no: rejected                    └── accepted, or n reached ──> done

A call is *due* if the verdicts need it whatever the open votes say, and *ahead* if they may need it: a further vote
of a candidate that may be rejected before, or a further candidate of a prompt that may be settled before. Votes that
were cast ahead are recorded when they are due and not before. So candidates, verdicts and votes of a finished prompt
are the same whatever was asked ahead and in whatever order the replies came: they are those of
`envs.cascade.cascade.Cascade.judge` on blocks of candidates, without `fill_rows`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from envs.cascade.candidate_state import CandidateState
from envs.cascade.cascade import Cascade
from envs.cascade.group_votes import GroupVotes
from envs.cascade.judging import Conversation
from envs.cascade.ordering import Unit
from envs.cascade.stage import Ballot
from svd_loop.contracts import (
    NO_CANDIDATE,
    AgentCall,
    CallId,
    Candidate,
    Prompt,
    Reply,
    Selection,
    Solver,
    Verdict,
    Vote,
    VoteValue,
)


@dataclass(slots=True)
class YesRate:
    """The share of yes among the votes of a round so far; with one vote of each kind added, it is never 0 or 1."""

    yes: int = 1
    votes: int = 2

    def add(self, vote: Vote) -> None:
        """Count a vote."""
        self.yes += vote.value is VoteValue.YES
        self.votes += 1

    @property
    def value(self) -> float:
        """The share."""
        return self.yes / self.votes


@dataclass(frozen=True, slots=True)
class RoundRules:
    """What all prompts of a round have in common.

    Attributes:
        cascade: judges.
        solver: writes the solver's calls; None where all candidates are given.
        units: the votes in the order in which they are asked in the round (`Cascade.units`).
        round: its number.
        n: candidates per prompt at most.
        block: candidates of a prompt that are needed together.
        selection: under `first_valid` a prompt is settled by a block with an accepted candidate.
        purpose: namespace of the calls.
        yes_rate: shared by the prompts, to estimate which calls will be needed.
    """

    cascade: Cascade
    solver: Solver | None
    units: Sequence[Unit]
    round: int
    n: int
    block: int
    selection: Selection
    purpose: str = "train"
    yes_rate: YesRate = field(default_factory=YesRate)

    def asks_every_vote(self, candidate: Candidate) -> bool:
        """Whether all votes of a candidate are due at once: without early exit, and in the audit slice."""
        audited = self.purpose == "train" and self.cascade.is_audited(candidate, self.round)
        return audited or not self.cascade.settings.early_exit


@dataclass(slots=True)
class _Slot:
    """A candidate of the prompt.

    `units[:at]` are recorded or not wanted, `units[:begun]` begun or not wanted. With the vote of unit `doom`, which
    was cast, the candidate is rejected at the latest.
    """

    index: int
    state: CandidateState | None = None
    every_vote: bool = False
    at: int = 0
    begun: int = 0
    votes: dict[int, Vote] = field(default_factory=dict)
    doom: int | None = None
    verdict: Verdict | None = None

    def cast(self, unit: int, vote: Vote) -> None:
        """Keep a vote until it is recorded, and see whether the votes at hand are enough to reject the candidate."""
        assert self.state is not None
        self.votes[unit] = vote
        if vote.value is VoteValue.YES or not self.state.is_open:
            return
        tally = self.state.tally.copy()
        for place in sorted(self.votes):
            known = self.votes[place]
            tally.add(known.stage, known.value)
            if tally.is_failed(known.stage):
                self.doom = place
                return

    @property
    def is_rejected(self) -> bool:
        """Whether the candidate is or will be rejected."""
        return self.doom is not None or (self.verdict is not None and not self.verdict.accepted)


@dataclass(frozen=True, slots=True, eq=False)
class _Task:
    """What waits for a reply: a candidate to be written, or a vote (`unit` is its place in the order)."""

    slot: _Slot
    unit: int = -1
    conversation: Conversation | None = None


class PromptFlow:
    """The conversation about one prompt.

    Args:
        prompt: the question.
        rules: of the round.
        given: all n candidates, if they are written already; the prompt may then be done at once.
    """

    def __init__(self, prompt: Prompt, rules: RoundRules, given: Sequence[Candidate] = ()) -> None:
        self.prompt = prompt
        self.is_done = False
        self._rules = rules
        self._slots = [_Slot(index) for index in range(rules.n)]
        self._sampled = 0
        self._wanted = 0
        self._unsent: dict[CallId, AgentCall] = {}
        self._waiting: dict[CallId, list[_Task]] = {}
        self._shared: dict[CallId, Reply] = {}
        self._dropped: list[CallId] = []
        self._group: GroupVotes | None = None
        if given:
            self._sampled = self._wanted = rules.n
            for slot, candidate in zip(self._slots, given, strict=True):
                self._sample(slot, candidate)
            self._move()
            return
        # All accepted candidates count under `all_valid`, so all n are due.
        self._want(rules.block if rules.selection is Selection.FIRST_VALID else rules.n)

    # ------------------------------------------------------------------------------------------ for the scheduler

    def due(self) -> list[AgentCall]:
        """The calls that are due and were not handed out before."""
        if not self._unsent:
            return []
        due = [call for call in self._unsent.values() if any(map(self._is_due, self._waiting[call.id]))]
        for call in due:
            del self._unsent[call.id]
        return due

    def chance_ahead(self) -> float:
        """The estimated chance that the next call ahead will be needed; 0 if there is none."""
        if self._unsent:
            return max(self._chance(task) for call_id in self._unsent for task in self._waiting[call_id])
        return max((chance for chance, _ in self._options()), default=0.0)

    def ahead(self) -> AgentCall | None:
        """The call ahead with the best chance to be needed; None if there is none. Ask for `due` calls first."""
        while not self._unsent:
            option = max(self._options(), key=lambda option: option[0], default=None)
            if option is None:
                return None
            self._begin_ahead(option[1])
        # A conversation that was begun goes on before another one begins: its first reply is worth nothing alone.
        call = next(iter(self._unsent.values()))
        del self._unsent[call.id]
        return call

    def receive(self, reply: Reply) -> None:
        """Take the reply to a call that was handed out and not dropped."""
        tasks = self._waiting.pop(reply.call)
        if reply.call.candidate == NO_CANDIDATE:
            self._shared[reply.call] = reply
        for task in tasks:
            if task.conversation is None:
                self._sample(task.slot, reply.as_candidate())
            else:
                self._converse(task, task.conversation, reply)
        self._move()

    def is_waiting_for(self, call_id: CallId) -> bool:
        """Whether the reply to a call is still of use."""
        return call_id in self._waiting

    def take_dropped(self) -> list[CallId]:
        """Calls that were handed out and are not needed any more, since the last call of this method."""
        dropped, self._dropped = self._dropped, []
        return dropped

    def played(self) -> list[tuple[Candidate, Verdict]]:
        """The candidates of the blocks that were needed, with their verdicts; once the prompt is done."""
        return [
            (slot.state.candidate, slot.verdict)
            for slot in self._slots[: self._wanted]
            if slot.state is not None and slot.verdict is not None
        ]

    # ------------------------------------------------------------------------------------------------- what happens

    def _want(self, count: int) -> None:
        """Make the next `count` candidates due."""
        self._wanted = min(self._wanted + count, self._rules.n)
        self._sample_all(self._slots[self._sampled : self._wanted])

    def _sample_all(self, slots: Sequence[_Slot]) -> None:
        rules = self._rules
        assert rules.solver is not None
        indices = [slot.index for slot in slots]
        calls = rules.solver.calls([self.prompt], indices, round=rules.round, purpose=rules.purpose)
        for slot, call in zip(slots, calls, strict=True):
            self._sampled = max(self._sampled, slot.index + 1)
            self._ask(_Task(slot), call)

    def _sample(self, slot: _Slot, candidate: Candidate) -> None:
        slot.state = self._rules.cascade.begin(self.prompt, candidate)
        slot.every_vote = self._rules.asks_every_vote(candidate)

    def _converse(self, task: _Task, conversation: Conversation, reply: Reply | None) -> None:
        """Continue a vote with a reply, or begin it, up to its next call or its end."""
        while True:
            try:
                call = next(conversation) if reply is None else conversation.send(reply)
            except StopIteration as finished:
                self._cast(task.slot, task.unit, finished.value)
                return
            if (reply := self._shared.get(call.id)) is None:
                self._ask(task, call)
                return

    def _cast(self, slot: _Slot, unit: int, vote: Vote) -> None:
        before = slot.doom
        slot.cast(unit, vote)
        if slot.doom != before and slot.doom is not None and not slot.every_vote:
            self._drop_of(slot, slot.doom)

    def _ask(self, task: _Task, call: AgentCall) -> None:
        """Wait for the reply to a call; one that other candidates asked before is not asked again."""
        if (tasks := self._waiting.get(call.id)) is None:
            self._unsent[call.id] = call
            self._waiting[call.id] = [task]
        else:
            tasks.append(task)

    def _move(self) -> None:
        """Record votes, begin those that are due, and go on to the next block, as far as the replies allow."""
        while not self.is_done:
            for slot in self._slots[: self._sampled]:
                self._record(slot)
            wanted = self._slots[: self._wanted]
            # A block whose candidates will all be rejected needs the next one, whatever its open votes say.
            if self._wanted < self._rules.n and all(slot.is_rejected for slot in wanted):
                self._want(self._rules.block)
            elif all(slot.verdict is not None for slot in wanted):
                self.is_done = True
                self._drop(list(self._waiting))
            else:
                return

    def _record(self, slot: _Slot) -> None:
        """Record the candidate's votes in the order of the units; begin what is due; note the verdict at the end."""
        state = slot.state
        if state is None or slot.verdict is not None:
            return
        is_due = slot.index < self._wanted
        if is_due and slot.every_vote and state.is_open:
            while (unit := self._next_unit(slot, slot.begun)) is not None and self._begin(slot, unit):
                pass
        while (unit := self._next_unit(slot, slot.at)) is not None:
            if unit >= slot.begun and not (is_due and self._begin(slot, unit)):
                return
            vote = slot.votes.pop(unit, None)
            if vote is None:
                return
            state.record(vote)
            self._rules.yes_rate.add(vote)
            slot.at = unit + 1
        slot.verdict = state.verdict()
        self._drop_of(slot)

    def _next_unit(self, slot: _Slot, start: int) -> int | None:
        """The first unit from `start` on that the candidate's verdict can depend on."""
        state, units = slot.state, self._rules.units
        if state is None:
            return None
        if slot.every_vote:
            unfit = not state.is_open and slot.at == 0
            return None if unfit or start >= len(units) else start
        if not state.is_open:
            return None
        end = len(units) if slot.doom is None else slot.doom + 1
        return next((unit for unit in range(start, end) if state.wants(units[unit][0])), None)

    def _begin(self, slot: _Slot, unit: int) -> bool:
        """Begin a vote; False if it needs candidates of the prompt that are not there yet."""
        assert slot.state is not None
        rules = self._rules
        stage, number = rules.units[unit]
        ballot = Ballot(self.prompt, slot.state.candidate, stage, number, rules.round, rules.purpose)
        if stage not in rules.cascade.settings.deciding_stages:
            slot.begun = unit + 1
            conversation = rules.cascade.conversation(ballot)
            self._converse(_Task(slot, unit, conversation), conversation, None)
            return True
        group = [other.state.candidate for other in self._slots if other.state is not None]
        if len(group) < rules.n:
            return False
        slot.begun = unit + 1
        self._group = self._group or rules.cascade.group_votes({self.prompt.id: group})
        self._cast(slot, unit, self._group.cast([ballot])[0])
        return True

    def _drop_of(self, slot: _Slot, last: int = -1) -> None:
        """Stop waiting for what a candidate no longer needs: its votes after unit `last`."""
        for call_id, tasks in list(self._waiting.items()):
            left = [task for task in tasks if task.slot is not slot or task.unit <= last]
            if not left:
                self._drop([call_id])
            elif len(left) < len(tasks):
                self._waiting[call_id] = left  # other candidates wait for a call that they share

    def _drop(self, call_ids: Sequence[CallId]) -> None:
        """Stop waiting for replies."""
        for call_id in call_ids:
            del self._waiting[call_id]
            if self._unsent.pop(call_id, None) is None:
                self._dropped.append(call_id)

    # ------------------------------------------------------------------------------------------------- looking ahead

    def _is_due(self, task: _Task) -> bool:
        slot = task.slot
        if slot.index >= self._wanted:
            return False
        return task.unit < 0 or slot.every_vote or task.unit == self._next_unit(slot, slot.at)

    def _options(self) -> Iterator[tuple[float, _Slot]]:
        """The candidates about which a call ahead can be begun, with its chance to be needed."""
        for slot in self._slots[: self._sampled + 1]:
            if slot.verdict is not None or (slot.index < self._sampled and slot.state is None):
                continue
            if slot.state is None:
                yield self._chance(_Task(slot)), slot
            elif (unit := self._next_unit(slot, slot.begun)) is not None and self._can_begin(unit):
                yield self._chance(_Task(slot, unit)), slot

    def _can_begin(self, unit: int) -> bool:
        return self._rules.units[unit][0] not in self._rules.cascade.settings.deciding_stages

    def _begin_ahead(self, slot: _Slot) -> None:
        if slot.state is None:
            self._sample_all([slot])
        elif (unit := self._next_unit(slot, slot.begun)) is not None:
            self._begin(slot, unit)

    def _chance(self, task: _Task) -> float:
        """The chance that a call will be needed, if votes were independent: only its order matters."""
        slot, rate = task.slot, self._rules.yes_rate.value
        start = self._wanted + (slot.index - self._wanted) // self._rules.block * self._rules.block
        chance = 1.0
        for earlier in self._slots[: max(start, 0)] if slot.index >= self._wanted else ():
            chance *= 1.0 - self._accepting(earlier, rate)
        if task.unit >= 0 and not slot.every_vote:
            chance *= rate ** (task.unit - slot.at)
        return chance

    def _accepting(self, slot: _Slot, rate: float) -> float:
        """The chance that a candidate is accepted."""
        if slot.verdict is not None or slot.doom is not None:
            return float(not slot.is_rejected)
        return rate ** (len(self._rules.units) - slot.at)

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

from collections.abc import Sequence
from dataclasses import dataclass, field

from envs.cascade.cascade import Cascade
from envs.cascade.group_votes import GroupVotes
from envs.cascade.judging import Conversation
from envs.cascade.ordering import Unit
from envs.cascade.stage import Ballot
from envs.flow.slot import Slot, Task
from envs.flow.yes_rates import YesRates
from svd_loop.contracts import (
    NO_CANDIDATE,
    AgentCall,
    CallId,
    Candidate,
    Prompt,
    Reply,
    Selection,
    Solver,
    StageName,
    Verdict,
    Vote,
)


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
        rates: shared by the prompts, to estimate which calls will be needed.
        deciding: stages that decide about all candidates of a prompt at once.
    """

    cascade: Cascade
    solver: Solver | None
    units: Sequence[Unit]
    round: int
    n: int
    block: int
    selection: Selection
    purpose: str = "train"
    rates: YesRates = field(default_factory=YesRates)
    deciding: frozenset[StageName] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "deciding", self.cascade.settings.deciding_stages)

    def asks_every_vote(self, candidate: Candidate) -> bool:
        """Whether all votes of a candidate are due at once: without early exit, and in the audit slice."""
        audited = self.purpose == "train" and self.cascade.is_audited(candidate, self.round)
        return audited or not self.cascade.settings.early_exit


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
        self._slots = [Slot(index) for index in range(rules.n)]
        self._sampled = 0
        self._wanted = 0
        self._unsent: dict[CallId, AgentCall] = {}
        self._waiting: dict[CallId, list[Task]] = {}
        self._shared: dict[CallId, Reply] = {}
        self._dropped: list[CallId] = []
        self._group: GroupVotes | None = None
        self._option: tuple[float, Slot] | None = None
        if given:
            self._sampled = self._wanted = rules.n
            for slot, candidate in zip(self._slots, given, strict=True):
                self._sample(slot, candidate)
            self._move(self._slots)
            return
        # All accepted candidates count under `all_valid`, so all n are due.
        self._want(rules.block if rules.selection is Selection.FIRST_VALID else rules.n)

    # ------------------------------------------------------------------------------------------ for the scheduler

    def due(self) -> list[AgentCall]:
        """The calls that are due and were not handed out before."""
        if not self._unsent:
            return []
        due = [call for call_id, call in self._unsent.items() if any(map(self._is_due, self._waiting[call_id]))]
        for call in due:
            del self._unsent[call.id]
        return due

    def chance_ahead(self) -> float:
        """The estimated chance that the next call ahead will be needed; 0 if there is none."""
        if self._unsent:
            return max(self._chance(task) for call_id in self._unsent for task in self._waiting[call_id])
        self._option = self._best_option()
        return 0.0 if self._option is None else self._option[0]

    def ahead(self) -> AgentCall | None:
        """The call ahead with the best chance to be needed; None if there is none. Ask for `due` calls first."""
        while not self._unsent:
            option, self._option = self._option or self._best_option(), None
            if option is None:
                return None
            self._begin_ahead(option[1])
        # A conversation that was begun goes on before another one begins: its first reply is worth nothing alone.
        call = next(iter(self._unsent.values()))
        del self._unsent[call.id]
        return call

    def receive(self, reply: Reply) -> None:
        """Take the reply to a call that was handed out and not dropped."""
        tasks, self._option = self._waiting.pop(reply.call), None
        if reply.call.candidate == NO_CANDIDATE:
            self._shared[reply.call] = reply
        for task in tasks:
            if task.conversation is None:
                self._sample(task.slot, reply.as_candidate())
            else:
                self._converse(task, task.conversation, reply)
        self._move([task.slot for task in tasks])

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

    def _sample_all(self, slots: Sequence[Slot]) -> None:
        rules = self._rules
        assert rules.solver is not None
        indices = [slot.index for slot in slots]
        calls = rules.solver.calls([self.prompt], indices, round=rules.round, purpose=rules.purpose)
        for slot, call in zip(slots, calls, strict=True):
            self._sampled = max(self._sampled, slot.index + 1)
            self._ask(Task(slot), call)

    def _sample(self, slot: Slot, candidate: Candidate) -> None:
        slot.state = self._rules.cascade.begin(self.prompt, candidate)
        slot.every_vote = self._rules.asks_every_vote(candidate)

    def _converse(self, task: Task, conversation: Conversation, reply: Reply | None) -> None:
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

    def _cast(self, slot: Slot, unit: int, vote: Vote) -> None:
        before = slot.doom
        slot.cast(unit, vote)
        if slot.doom != before and slot.doom is not None and not slot.every_vote:
            self._drop_of(slot, slot.doom)

    def _ask(self, task: Task, call: AgentCall) -> None:
        """Wait for the reply to a call; one that other candidates asked before is not asked again."""
        if (tasks := self._waiting.get(call.id)) is None:
            self._unsent[call.id] = call
            self._waiting[call.id] = [task]
        else:
            tasks.append(task)

    def _move(self, changed: Sequence[Slot]) -> None:
        """Record votes, begin those that are due, and go on to the next block, as far as the replies allow."""
        rules, slots = self._rules, self._slots
        while not self.is_done:
            # With a stage that sees all candidates, a new one may let the others go on.
            for slot in slots[: self._sampled] if rules.deciding else changed:
                self._record(slot)
            # A block whose candidates will all be rejected needs the next one, whatever its open votes say.
            before = self._wanted
            if before < rules.n and all(slot.is_rejected for slot in slots[:before]):
                self._want(rules.block)
                changed = slots[before : self._wanted]
            elif all(slot.verdict is not None for slot in slots[:before]):
                self.is_done = True
                self._drop(list(self._waiting))
            else:
                return

    def _record(self, slot: Slot) -> None:
        """Record the candidate's votes in the order of the units; begin what is due; note the verdict at the end."""
        state, units = slot.state, self._rules.units
        if state is None or slot.verdict is not None:
            return
        is_due = slot.index < self._wanted
        if is_due and slot.every_vote and state.is_open:
            while (unit := slot.next_unit(units, slot.begun)) is not None and self._begin(slot, unit):
                pass
        while (unit := slot.next_unit(units, slot.at)) is not None:
            if unit >= slot.begun and not (is_due and self._begin(slot, unit)):
                return
            vote = slot.votes.pop(unit, None)
            if vote is None:
                return
            if state.is_open:
                self._rules.rates.add(unit, vote.value)
            state.record(vote)
            slot.at = unit + 1
        slot.verdict = state.verdict()
        self._drop_of(slot)

    def _begin(self, slot: Slot, unit: int) -> bool:
        """Begin a vote; False if it needs candidates of the prompt that are not there yet."""
        assert slot.state is not None
        rules = self._rules
        stage, number = rules.units[unit]
        state = slot.state
        ballot = Ballot(self.prompt, state.candidate, stage, number, rules.round, rules.purpose, state.rendered)
        if stage not in rules.deciding:
            slot.begun = unit + 1
            conversation = rules.cascade.conversation(ballot)
            self._converse(Task(slot, unit, conversation), conversation, None)
            return True
        group = [other.state.candidate for other in self._slots if other.state is not None]
        if len(group) < rules.n:
            return False
        slot.begun = unit + 1
        self._group = self._group or rules.cascade.group_votes({self.prompt.id: group})
        self._cast(slot, unit, self._group.cast([ballot])[0])
        return True

    def _drop_of(self, slot: Slot, last: int = -1) -> None:
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

    def _is_due(self, task: Task) -> bool:
        slot = task.slot
        if slot.index >= self._wanted:
            return False
        return task.unit < 0 or slot.every_vote or task.unit == slot.next_unit(self._rules.units, slot.at)

    def _best_option(self) -> tuple[float, Slot] | None:
        """The candidate about which the call ahead that will most likely be needed can be begun, with its chance."""
        rules, best, chosen = self._rules, 0.0, None
        passing = rules.rates.passing(len(rules.units))
        reached = needed = 1.0  # the chance that all earlier candidates are rejected, and that this one is needed
        for slot in self._slots[: self._sampled + 1]:
            if slot.index >= self._wanted and (slot.index - self._wanted) % rules.block == 0:
                needed = reached
            if needed <= best:
                break  # the chances of later candidates are no better
            if slot.index == self._sampled:
                best, chosen = needed, slot
            elif slot.state is not None and slot.verdict is None:
                unit = slot.next_unit(rules.units, slot.begun)
                if unit is not None and rules.units[unit][0] not in rules.deciding:
                    chance = needed if slot.every_vote else needed * passing[unit] / passing[slot.at]
                    if chance > best:
                        best, chosen = chance, slot
            reached *= 1.0 - slot.accepting(passing)
        return None if chosen is None else (best, chosen)

    def _begin_ahead(self, slot: Slot) -> None:
        if slot.state is None:
            self._sample_all([slot])
        elif (unit := slot.next_unit(self._rules.units, slot.begun)) is not None:
            self._begin(slot, unit)

    def _chance(self, task: Task) -> float:
        """The chance that a call will be needed, if votes were independent: only its order matters."""
        slot, rules, chance = task.slot, self._rules, 1.0
        passing = rules.rates.passing(len(rules.units))
        start = self._wanted + (slot.index - self._wanted) // rules.block * rules.block
        for earlier in self._slots[: max(start, 0)] if slot.index >= self._wanted else ():
            chance *= 1.0 - earlier.accepting(passing)
        if task.unit >= 0 and not slot.every_vote:
            chance *= passing[task.unit] / passing[slot.at]
        return chance

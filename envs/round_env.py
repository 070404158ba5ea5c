"""A round of self-verified distillation as a Gymnasium environment: an agent writes, the environment judges.

    reset(prompts) ──> observation: text of each open prompt, "" for the others
                              │
      agent ── action: a block of candidates per open prompt ──> step()
                              │
                 acceptor (cascade of votes) ──> a verdict per candidate
                              │
      reward = newly solved prompts / P     prompt stays open while it has
                              │             no accepted candidate and fewer
                              │             than n candidates
             open prompts left? ── yes ──> next observation
                              └─── no ───> terminated, info["outcome"]:
                                           candidates, verdicts, selected, funnel

An episode is a round. The reward of a step is the share of the round's prompts that got their first accepted candidate
in it, so the return of an episode is the share of solved prompts. An episode ends (terminated, never truncated) when
every prompt is settled or has used its n candidates.

Any agent will do: plain strings are candidates too (see `envs.play`). The environment draws no random numbers; every
call carries its own seed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any

import gymnasium
from gymnasium.error import ResetNeeded

from envs.acceptors import Acceptor, Both
from envs.cascade.cascade import Cascade, funnel
from envs.cascade.look_ahead import reach
from envs.cascade.template_sets import TemplateSet
from envs.demo import DEMO_PROMPTS, DemoJudge
from envs.flow.flow import Flow
from envs.flow.lockstep import judge_in_flow
from envs.flow.prompt_flow import PromptFlow, RoundRules
from envs.prompt_state import PromptState, Shelving
from envs.spaces import CandidateBatchSpace, PromptBatchSpace
from svd_loop.contracts import (
    Candidate,
    Episode,
    Policy,
    Prompt,
    RoundInfo,
    Selection,
    Shelf,
    Solver,
    StageName,
    Verdict,
)
from svd_loop.errors import ActionError, ConfigError, DataError, EngineError
from svd_loop.support.streams import stream_of

Action = Sequence[Sequence[str | Candidate]]
_OPTIONS = ("prompts", "round", "judge")


@dataclass(slots=True)
class _Round:
    """State of an episode: each `open` prompt has been asked `asked` candidates and is now asked `wanted` more."""

    number: int
    slots: list[PromptState]
    open: list[int]
    judge: Policy
    wanted: int
    asked: int = 0


class SelfVerificationEnv(gymnasium.Env[tuple[str, ...], Action]):
    """The environment registered as `SelfVerification-v0`.

    Observation: `PromptBatchSpace(P)`. Action: `CandidateBatchSpace(P, block)`, with n in place of block where blocks
    may grow. Candidates for closed prompts, or beyond a prompt's n, are ignored; candidates that are wanted and missing
    are not asked for again.

    `info` holds `open` (places of the open prompts), `indices` (numbers of the candidates wanted now for each of them)
    and `verdicts` (of this step); when the episode ends also `outcome` (`svd_loop.contracts.Episode`).
    """

    def __init__(
        self,
        *,
        prompts: Sequence[Prompt] = DEMO_PROMPTS,
        judge: Policy | None = None,
        cascade: Cascade | None = None,
        acceptor: Acceptor | None = None,
        judged: bool | None = None,
        n: int = 8,
        block: int | None = None,
        selection: Selection = Selection.FIRST_VALID,
        fill_rows: int | None = None,
        shelf: Shelf | None = None,
    ) -> None:
        """Store the settings; the judge is not called before `step`.

        Args:
            prompts: The prompts of a round, unless `reset` is given others.
            judge: The policy that votes, unless `reset` is given another; None is a judge that can check only the
                built-in prompts and rejects everything else.
            cascade: How the judge votes; None is the method's default with the `chat` templates. With its setting
                `flow` a step lets every vote move on as soon as it can.
            acceptor: Used instead of judge and cascade (the controls); None is the method.
            judged: Whether the cascade judges, too; an `acceptor` then has to accept what it accepted. None is yes
                without an acceptor and no with one.
            n: Candidates per prompt and round at most.
            block: Candidates per prompt and step; None is n.
            selection: Whether the first or all accepted candidates of a prompt are selected. Only under
                `first_valid` does an accepted candidate settle its prompt.
            fill_rows: Rows that a step's batch should hold; later blocks grow towards it (`envs.cascade.look_ahead`).
                None keeps the block.
            shelf: Keeps texts and token ids of settled prompts; None leaves them in memory.

        Raises:
            ConfigError: `n` or `block` is below 1, or a stage has to see all n candidates and `block` is smaller.
            DataError: Two prompts share an id, a prompt has no text, or there are no prompts.
        """
        if n < 1 or (block is not None and block < 1):
            raise ConfigError(f"sampling.n and sampling.block must be at least 1, found n = {n}, block = {block}")
        self._prompts = prompts
        self._judge: Policy = judge or DemoJudge()
        self._cascade = cascade or Cascade(TemplateSet.load("chat"))
        self._acceptor = acceptor
        self._judged = acceptor is None if judged is None else judged
        if self._judged and self._cascade.settings.deciding_stages and (block or n) < n:
            raise ConfigError(
                f"sampling.block: {block} hides candidates from a stage that decides about all {n} of a prompt at once"
            )
        self._n = n
        self._block = min(block or n, n)
        self._selection = selection
        self._fill_rows = fill_rows
        # In the flow, candidates that are asked ahead are no part of the round.
        self._wave_rows = None if self._cascade.settings.flow else fill_rows
        self._accept = self._accepting(self._judge)
        self._shelf = shelf
        self._shelving = Shelving(shelf, selection)
        self._round = self._new_round(0, [], self._judge)
        self._set_spaces(len(_checked(prompts)))

    # ------------------------------------------------------------------------------------ Gymnasium

    # RoundInfo is a dict[str, Any] at run time, as Gymnasium wants; mypy does not take a TypedDict for one.
    def reset(  # type: ignore[override]
        self, *, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[tuple[str, ...], RoundInfo]:
        """Begin a round.

        Args:
            seed: Seeds `np_random`, which this environment does not use.
            options: `prompts` (a sequence of `Prompt`; the spaces take their number), `round` (default 1) and
                `judge` (a `Policy`), each for this episode only.

        Raises:
            DataError: The prompts cannot make a round.
            ActionError: An option is unknown.
        """
        super().reset(seed=seed)
        chosen = dict(options or {})
        if unknown := sorted(set(chosen) - set(_OPTIONS)):
            raise ActionError(f"reset(options=...): unknown {unknown}; known: {', '.join(_OPTIONS)}")
        prompts = _checked(chosen.get("prompts", self._prompts))
        judge: Policy = chosen.get("judge", self._judge)
        self._round = self._new_round(chosen.get("round", 1), prompts, judge)
        self._accept = self._accepting(self._round.judge)
        self._shelving = Shelving(self._shelf, self._selection)
        self._set_spaces(len(prompts))
        return self._observation(), self._info([])

    def step(self, action: Action) -> tuple[tuple[str, ...], float, bool, bool, RoundInfo]:  # type: ignore[override]
        """Judge a block of candidates.

        Args:
            action: P sequences of at most `block` candidates, each a text or a `Candidate` with the expected prompt
                id and number.

        Raises:
            ActionError: The action has another shape, or a candidate belongs to another place.
            EngineError: The judge failed.
            gymnasium.error.ResetNeeded: The episode is over or has not begun.
        """
        if not self._round.open:
            raise ResetNeeded("the round is over or has not begun: call reset() before step()")
        # Order matters: `_read` uses the `open` prompts and indices of the last observation, `_advance` replaces them.
        given = self._read(action)
        items = [(slot.prompt, candidate) for slot, candidate in given]
        verdicts = self._accept(items, round=self._round.number)
        if len(verdicts) != len(items):
            raise EngineError(f"the acceptor was given {len(items)} candidates and gave {len(verdicts)} verdicts")
        newly_accepted = sum(
            slot.record(candidate, verdict) for (slot, candidate), verdict in zip(given, verdicts, strict=True)
        )
        # The reward counts first acceptances only, so that the return is the share of solved prompts also where all
        # accepted candidates are kept.
        self._advance()
        reward = newly_accepted / len(self._round.slots)
        return self._observation(), reward, not self._round.open, False, self._info(verdicts)

    # ---------------------------------------------------------------------------------------- agents

    def action(self, candidates: Sequence[str | Candidate]) -> tuple[tuple[str | Candidate, ...], ...]:
        """Arrange candidates as an action: `len(info["indices"])` for each prompt of `info["open"]`, prompt-major.

        Raises:
            ActionError: There are more or fewer candidates than that.
        """
        places, count = self._round.open, len(self._indices)
        if len(candidates) != len(places) * count:
            raise ActionError(f"wanted {count} candidates for each of {len(places)} prompts, found {len(candidates)}")
        blocks = {place: tuple(candidates[k * count : (k + 1) * count]) for k, place in enumerate(places)}
        return tuple(blocks.get(place, ()) for place in range(len(self._round.slots)))

    def flow(
        self, policy: Policy, solver: Solver, watch: Callable[[Sequence[Verdict]], None] = lambda verdicts: None
    ) -> Episode:
        """Play a round that was just reset to its end, every candidate as soon as it can be (`envs.flow`).

        Candidates and verdicts are those of blocks that are stepped without `fill_rows`.

        Args:
            policy: Solves and judges, in one stream.
            solver: Writes the solver's calls.
            watch: Gets the verdicts of every prompt when it is done.

        Raises:
            ActionError: The round has begun, or an acceptor takes the cascade's place or stands behind it.
            EngineError: The policy left a call unanswered.
        """
        round = self._round
        if round.asked or not round.open or self._acceptor is not None:
            raise ActionError("flow() plays a whole round with the cascade alone: call reset() first, use no acceptor")
        rules = RoundRules(
            self._cascade,
            solver,
            self._cascade.units(round.number),
            round.number,
            self._n,
            self._block,
            self._selection,
        )
        by_id = {slot.prompt.id: slot for slot in round.slots}
        with closing(stream_of(policy)) as stream:
            prompts = (PromptFlow(slot.prompt, rules) for slot in round.slots)
            for done in Flow(stream, fill_rows=self._fill_rows).play(prompts):
                for candidate, verdict in done.played():
                    by_id[done.prompt.id].record(candidate, verdict)
                watch(by_id[done.prompt.id].verdicts)
                self._shelving.settle([by_id[done.prompt.id]])
        round.open = []
        return self._episode()

    # --------------------------------------------------------------------------------------- inside

    def _accepting(self, judge: Policy) -> Acceptor:
        """What accepts: the cascade with this judge, the acceptor, or both."""
        cascade: Acceptor = partial(self._cascade.judge, judge)
        if self._cascade.settings.flow:
            cascade = partial(judge_in_flow, self._cascade, judge, fill_rows=self._fill_rows)
        if self._acceptor is None:
            return cascade
        return Both(cascade, self._acceptor) if self._judged else self._acceptor

    @property
    def _indices(self) -> range:
        """Numbers of the candidates wanted now for every open prompt."""
        return range(self._round.asked, self._round.asked + self._round.wanted)

    def _new_round(self, number: int, prompts: Sequence[Prompt], judge: Policy) -> _Round:
        slots = [PromptState(prompt) for prompt in prompts]
        return _Round(number, slots, list(range(len(prompts))), judge, wanted=self._block)

    @property
    def _largest_block(self) -> int:
        """The most candidates per prompt that a step may ask for."""
        return self._block if self._wave_rows is None else self._n

    def _set_spaces(self, size: int) -> None:
        self.observation_space = PromptBatchSpace(size)
        self.action_space = CandidateBatchSpace(size, self._largest_block)

    def _observation(self) -> tuple[str, ...]:
        wanted = set(self._round.open)
        return tuple(slot.prompt.text if place in wanted else "" for place, slot in enumerate(self._round.slots))

    def _read(self, action: Action) -> list[tuple[PromptState, Candidate]]:
        """The candidates to judge, prompt-major, each with its prompt's state."""
        if not self.action_space.contains(action):
            raise ActionError(
                f"an action is {len(self._round.slots)} tuples or lists, one for each prompt, of at most "
                f"{self._largest_block} candidates, each a str or a Candidate; found {_shape(action)}"
            )
        slots = self._round.slots
        return [
            (slots[place], _as_candidate(answer, slots[place].prompt, index))
            for place in self._round.open
            for index, answer in zip(self._indices, action[place], strict=False)  # fewer, or a surplus, are allowed
        ]

    def _advance(self) -> None:
        """Close settled prompts and set the next block; all prompts stay open under `all_valid`."""
        round, stops_early = self._round, self._selection is Selection.FIRST_VALID
        # Count what was wanted, not what came: an agent that gives fewer candidates must not shift later numbers (and
        # with them the seeds), nor keep the round open for ever.
        round.asked = self._indices.stop
        before = round.open
        round.open = [
            place
            for place in round.open
            if round.asked < self._n and not (stops_early and round.slots[place].has_accepted)
        ]
        round.wanted = self._next_block() if round.open else 0
        self._shelving.settle([round.slots[place] for place in sorted(set(before).difference(round.open))])

    def _next_block(self) -> int:
        """Candidates wanted for each open prompt: the block, or more where few prompts are open."""
        round = self._round
        # All open prompts have been asked the same number of candidates, so one number serves for all of them.
        left = self._n - round.asked
        return max(min(self._block, left), reach(self._wave_rows, len(round.open), round.asked, left))

    def _info(self, verdicts: Sequence[Verdict]) -> RoundInfo:
        round = self._round
        info: RoundInfo = {"open": tuple(round.open), "indices": self._indices, "verdicts": tuple(verdicts)}
        if not round.open:
            info["outcome"] = self._episode()
        return info

    def _episode(self) -> Episode:
        slots = self._round.slots
        candidates = self._shelving.candidates(slots)
        verdicts = tuple(verdict for slot in slots for verdict in slot.verdicts)
        stages: tuple[StageName, ...] = self._cascade.settings.stage_names if self._judged else ()
        return Episode(
            round=self._round.number,
            prompts=len(slots),
            candidates=candidates,
            verdicts=verdicts,
            selected=tuple(candidate for slot in slots for candidate in slot.selected(self._selection)),
            funnel=funnel(verdicts, stages, static=bool(stages) and self._cascade.settings.static.is_on),
            metrics=self._metrics(verdicts),
        )

    def _metrics(self, verdicts: Sequence[Verdict]) -> dict[str, float]:
        """The cascade's metrics.

        With `fill_rows`, `ahead.candidates` counts the candidates sampled after the first accepted one of their prompt.
        """
        metrics = self._cascade.metrics(self._round.number, verdicts) if self._judged else {}
        if self._fill_rows is not None:
            metrics["ahead.candidates"] = float(sum(slot.beyond_first() for slot in self._round.slots))
        return metrics


def _checked(prompts: Sequence[Prompt]) -> Sequence[Prompt]:
    """The prompts, after checking that they can form a round."""
    if not prompts:
        raise DataError("a round needs at least one prompt")
    if blank := [prompt.id for prompt in prompts if not prompt.text]:
        raise DataError(f"prompts without text cannot be asked: {', '.join(blank[:5])}")
    if repeated := [prompt_id for prompt_id, count in Counter(p.id for p in prompts).items() if count > 1]:
        raise DataError(f"prompts of a round need different ids, repeated: {', '.join(repeated[:5])}")
    return prompts


def _as_candidate(answer: str | Candidate, prompt: Prompt, index: int) -> Candidate:
    if isinstance(answer, str):
        return Candidate(prompt.id, index, answer)
    if (answer.prompt_id, answer.index) != (prompt.id, index):
        raise ActionError(
            f"expected candidate {index} of prompt {prompt.id}, found candidate {answer.index} of {answer.prompt_id}"
        )
    return answer


def _shape(action: object) -> str:
    """A short description of a malformed action, for the error message."""
    if not isinstance(action, tuple | list):
        return type(action).__name__
    sizes = [len(slot) if isinstance(slot, tuple | list) else type(slot).__name__ for slot in action[:8]]
    return f"{len(action)} entries with {', '.join(map(str, sizes))}{', ...' if len(action) > 8 else ''}"

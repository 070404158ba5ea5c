"""The controller: rounds of sample, judge, select, update and evaluate until there is a reason to stop.

Its parts are passed in complete (see `svd_loop.assembly`), so this file depends on no engine, file
format or library. Every step may be repeated: answers, updates and rounds are looked up before they
are computed, which is all that resuming needs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace

from svd_loop.contracts import (
    AlarmAction,
    Candidate,
    Episode,
    JobResult,
    JobState,
    JudgeRow,
    Prompt,
    RoundRecord,
    Scores,
    StepRates,
    StopReason,
    TrainingRow,
    UpdateMaterial,
    UpdateResult,
    Usage,
    UsagePurpose,
    Verdict,
)
from svd_loop.loop.health_rule import explain, explain_verifiers
from svd_loop.loop.limits import Stopwatch
from svd_loop.loop.parts import Parts, Plan, PlayedRound
from svd_loop.loop.replay import accepted_rows, further_candidates, refused_rows, sibling_rows, usable_judge_rows
from svd_loop.support.progress import note, one_round
from svd_loop.support.progress import phase as reported
from svd_loop.support.usage import MeteredPolicy, added, votes_cast


@dataclass(frozen=True, slots=True)
class Measured:
    """The measurement of one version: scores, quality of the judge by step of the funnel, and usage."""

    scores: Scores
    audit: Mapping[str, StepRates]
    usage: Mapping[str, Usage]


class Controller:
    """Runs one job from the state of its ledger to a stop reason."""

    def __init__(self, parts: Parts, plan: Plan, on_round: Callable[[JobState], None] = lambda state: None) -> None:
        self.parts = parts
        self.plan = plan
        self.on_round = on_round
        self.watch = Stopwatch()

    def run(self) -> JobResult:
        """Play rounds until there is a reason to stop; the result names the best round, not the last."""
        state = self.parts.ledger.state()
        self.parts.tracker.start()
        self.parts.tracker.sync(state.history)
        if not state.history:
            state = self.record_baseline()
        while (stop := self.decide(state)) is None:
            with one_round(
                [sum(one.seconds.values()) for one in state.history[1:]], self.plan.limits.rounds - state.next_round
            ):
                state = self.play_round(state)
        return self.finish(state, stop)

    def decide(self, state: JobState) -> StopReason | None:
        """The reason to end the job now, or None."""
        last = state.last
        if self.parts.health.ends(last):
            return StopReason.JUDGE_UNHEALTHY
        if last.round == 0 and self.parts.health.finds_no_verifier(last):
            return StopReason.NO_VERIFIER
        if last.round > 0 and last.accepted_prompts == 0:
            return StopReason.NOTHING_ACCEPTED
        if stop := self.parts.plateau.decide(state.history):
            return stop
        if self.plan.limits.spent(state.history, self.parts.ledger.hours()):
            return StopReason.BUDGET
        return StopReason.ROUND_LIMIT if last.round >= self.plan.limits.rounds else None

    def record_baseline(self) -> JobState:
        """Round 0: the base model's held-out scores, and what it can verify."""
        with self.policy(0) as policy:
            measured = self.measure(policy)
            usage = {UsagePurpose.EVALUATION: measured.usage}
            with self.phase(0, "verifiers"):
                verifiers = self.parts.verify(policy, measured.usage)
            if spent := policy.take_usage():
                usage[UsagePurpose.VERIFIERS] = spent
        record = RoundRecord(0, policy.version, measured.scores, usage=usage, audit=measured.audit, verifiers=verifiers)
        return self.commit(record)

    def play_round(self, state: JobState) -> JobState:
        """One round: an episode, a check of its judge, an update on accepted rows, a measurement."""
        round = state.next_round
        prompts = self.parts.prompts.for_round(round, self.plan.prompts_per_round, self.plan.seed)
        parent = state.last.version.round
        with self.policy(parent) as policy:  # closed before training, which needs the engine's memory
            episode, others, judged, record = self.play_episode(policy, prompts, state)
        if self.parts.health.distrusts(record):
            return self.withdraw(record, episode, state)

        # Refused rows are not recorded as accepted, so they appear neither in replay nor in a lineage.
        new, unusable = self.parts.usable(accepted_rows(episode, prompts))
        judged, counts = usable_judge_rows(judged, self.parts.usable)
        record = replace(record, metrics={**record.metrics, **unusable, **counts})
        ledger = self.parts.ledger
        rows = self.parts.replay.mix(
            new, ledger.accepted_rows(), round=round, judged=judged, earlier_judged=ledger.judge_rows()
        )
        if not rows:
            return self.commit(record, episode)
        with self.phase(round, "update"):
            material = UpdateMaterial(
                rows, refused_rows(episode, others, prompts), sibling_rows(episode, others, prompts)
            )
            update = self.parts.update(material, round, parent)
        if update.candidates:
            update, record = self.choose_step(update, record)
        with self.policy(round) as policy:
            measured = self.measure(policy)
        record = replace(
            record,
            version=update.version,
            scores=measured.scores,
            rows=len(rows),
            usage={**record.usage, UsagePurpose.EVALUATION: measured.usage},
            audit=measured.audit,
            update=update.metrics,
        )
        return self.commit(record, episode, new, update, judged)

    def choose_step(self, update: UpdateResult, record: RoundRecord) -> tuple[UpdateResult, RoundRecord]:
        """Make the best checkpoint of the update the round's version, and add the choice to the record."""
        round = record.round
        with self.phase(round, "choose"):
            choice, usage = self.parts.choose_step(round, update.candidates)
            version = self.parts.keep_step(round, choice.kept)
        record = replace(record, choice=choice, usage={**record.usage, UsagePurpose.CHOICE: usage})
        return replace(update, version=version, steps=choice.kept), record

    def withdraw(self, record: RoundRecord, episode: Episode, state: JobState) -> JobState:
        """Close a round whose judge is not trusted: no update; a rollback restores the best version."""
        if self.parts.health.settings.action is AlarmAction.ROLLBACK:
            best = self.parts.plateau.best(state.history)
            record = replace(record, version=best.version, scores=best.scores)
        return self.commit(record, replace(episode, selected=()))

    def play_episode(
        self, policy: MeteredPolicy, prompts: list[Prompt], state: JobState
    ) -> tuple[Episode, list[Candidate], Sequence[JudgeRow], RoundRecord]:
        """The agent-environment loop: sample for the open prompts, let the environment judge, until terminated.

        Returns:
            The episode, its further judged candidates if the update learns from them, rows of its judge, and the
            round's partial record: with the version and the scores it started from.
        """
        environment, round = self.parts.environment, state.next_round
        with self.judge(policy) as judge:
            _, info = environment.reset(options={"prompts": prompts, "round": round, "judge": judge})
            accepted: set[str] = set()

            def watch(verdicts: Sequence[Verdict]) -> None:
                accepted.update(verdict.prompt_id for verdict in verdicts if verdict.accepted)
                note(f"{len(accepted)}/{len(prompts)} accepted")

            watch(())
            played = self.play_flow(policy, round, watch) if self.plan.flow and judge is policy else None
            while played is None:
                wanted = [prompts[place] for place in info["open"]]
                with self.phase(round, "sample"):
                    candidates = self.parts.solver.sample(policy, wanted, info["indices"], round=round)
                with self.phase(round, "judge"):
                    *_, info = environment.step(environment.unwrapped.action(candidates))
                watch(info["verdicts"])
                played = info.get("outcome")
            note("")
            usage = {UsagePurpose.ROUND: added(policy.take_usage(), judge.take_usage())}
            with self.phase(round, "canaries"):
                watched = PlayedRound(played, prompts, state.history, usage[UsagePurpose.ROUND])
                health = self.parts.judge_watch(judge, watched)
            usage[UsagePurpose.CANARY] = judge.take_usage()
            episode, others = self.without_leaks(played)
            judged: Sequence[JudgeRow] = ()
            if self.parts.replay.judge_share:
                with self.phase(round, "judge rows"):
                    judged = self.parts.judge_rows(judge, episode, others, prompts)
                usage[UsagePurpose.JUDGE_ROWS] = judge.take_usage()
        record = RoundRecord(
            round,
            state.last.version,
            state.last.scores,
            accepted_prompts=episode.accepted,
            prompts=episode.prompts,
            usage=usage,
            votes=votes_cast(played),
            health=self.parts.health.assess(health, state.history),
            metrics=played.metrics,
            funnel=episode.funnel,
        )
        return episode, others, judged, record

    def play_flow(self, policy: MeteredPolicy, round: int, watch: Callable[[Sequence[Verdict]], None]) -> Episode:
        """Play the round that was just reset without waves."""
        with self.phase(round, "play"):
            return self.parts.environment.unwrapped.flow(policy, self.parts.solver, watch)

    def without_leaks(self, played: Episode) -> tuple[Episode, list[Candidate]]:
        """The episode and its further judged candidates, without completions that hold held-out problems."""
        others = further_candidates(played) if self.plan.learns_from_refused else []
        kept = self.parts.firewall(replace(played, selected=(*played.selected, *others))).selected
        chosen = {(candidate.prompt_id, candidate.index) for candidate in played.selected}
        selected = tuple(one for one in kept if (one.prompt_id, one.index) in chosen)
        return replace(played, selected=selected), [one for one in kept if (one.prompt_id, one.index) not in chosen]

    def measure(self, policy: MeteredPolicy) -> Measured:
        """Measure one version: development scores, quality of the judge, and usage."""
        with self.phase(policy.version.round, "evaluate"):
            scores = self.parts.evaluator.evaluate(policy, "development")
            audit = self.parts.audit(policy)
        return Measured(scores, audit, policy.take_usage())

    def commit(
        self,
        record: RoundRecord,
        episode: Episode | None = None,
        new: list[TrainingRow] | None = None,
        update: UpdateResult | None = None,
        judged: Sequence[JudgeRow] = (),
    ) -> JobState:
        """Commit the round to the ledger, then show it to trackers."""
        self.parts.ledger.commit_round(replace(record, seconds=self.watch.take()), episode, new or [], update, judged)
        state = self.parts.ledger.state()
        self.parts.tracker.sync(state.history)
        self.on_round(state)
        return state

    def finish(self, state: JobState, stop: StopReason) -> JobResult:
        """Name the best round, run the test split once for it and the base, and end the job."""
        best = self.parts.plateau.best(state.history)
        tests: dict[str, Scores] = {}
        for round in sorted({0, best.version.round}) if self.plan.test_split else ():
            with self.policy(round) as policy, reported(f"test split, {policy.version.name}"):
                tests[policy.version.name] = self.parts.evaluator.evaluate(policy, "test")
        notes = (self.parts.plateau.explain(state.history), *filter(None, map(explain, state.history)))
        if stop is StopReason.NO_VERIFIER:
            notes += (explain_verifiers(state.last),)
        result = JobResult(self.plan.job, stop, best, state.history, test=tests, notes=notes)
        self.parts.ledger.commit_stop(result)
        self.parts.tracker.finish(result)
        self.parts.register(result)
        return result

    @contextmanager
    def phase(self, round: int, name: str) -> Iterator[None]:
        """Time what the block does, and name it where progress is shown."""
        title = f"round {round}/{self.plan.limits.rounds}" if round else "baseline"
        with reported(f"{title} {name}"), self.watch.phase(name):
            yield

    def policy(self, round: int) -> closing[MeteredPolicy]:
        """The policy of a round's version, closed when the block ends."""
        return closing(self.parts.open_policy(round))

    @contextmanager
    def judge(self, policy: MeteredPolicy) -> Iterator[MeteredPolicy]:
        """The judge: the policy itself, or round 0's weights if the judge is frozen."""
        if self.plan.frozen_judge and policy.version.round > 0:
            with self.policy(0) as frozen:
                yield frozen
        else:
            yield policy

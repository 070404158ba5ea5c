"""What `dpo`, `kto` and `grpo` share: their data, checked and in order, and the steps of an update.

A batch mixes rows of the supervised term (accepted, replayed, anchors) with examples of the preference term. Both are
token ids as they were sampled. The reference is the version that the update starts from; its log-probabilities are
computed once, before the first step, so that no second copy of the weights is held.
"""

from __future__ import annotations

import hashlib
import json
import logging
from abc import abstractmethod
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from policies.training.rows import check_rows, data_digest, usable_rows
from policies.training.run import Trained, TrainingTask, step_progress
from policies.training.sft import SftUpdater
from policies.training.updater import GradientUpdater
from svd_loop.config.update import ContrastSection, PreferenceSection
from svd_loop.contracts import RefusedRow, Rejection, TrainingRow, UpdateMaterial, UpdateResult

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Example:
    """One element of a batch.

    Attributes:
        prompt: token ids before the answer.
        completion: token ids with loss.
        label: None for a row of the supervised term; otherwise whether the answer was accepted.
        against: the refused answer of a pair.
        advantage: of the answer within its group.
    """

    prompt: tuple[int, ...]
    completion: tuple[int, ...]
    label: bool | None = None
    against: tuple[int, ...] = ()
    advantage: float = 0.0

    @property
    def tokens(self) -> int:
        """Tokens of the longest sequence."""
        return len(self.prompt) + max(len(self.completion), len(self.against))


def example(
    row: TrainingRow, label: bool | None = None, against: TrainingRow | None = None, advantage: float = 0.0
) -> Example:
    """A row as an example; `against` is a refused row of the same prompt."""
    place = row.supervised_from
    refused = against.input_ids[against.supervised_from :] if against else ()
    return Example(row.input_ids[:place], row.input_ids[place:], label, refused, advantage)


@dataclass(frozen=True, slots=True)
class Judged:
    """Accepted rows of a round, and the refused ones that can be used, by prompt."""

    accepted: Mapping[str, Sequence[TrainingRow]]
    refused: Mapping[str, Sequence[RefusedRow]]


class PreferenceUpdater(GradientUpdater[Example]):
    """The shared part of preference updates; a subclass chooses examples and runs its trainer."""

    smallest_pass = 1
    """Fewest examples of a forward pass that the trainer can work with."""

    @abstractmethod
    def examples(self, judged: Judged, counts: Counter[str]) -> list[Example]:
        """The examples of the preference term; may add to the counts."""

    @abstractmethod
    def train(self, task: TrainingTask, items: Sequence[Example], on_step: Callable[[int], None]) -> Trained:
        """Run the trainer."""

    @property
    def section(self) -> PreferenceSection:
        """`update.algorithm`."""
        assert isinstance(self._settings.algorithm, PreferenceSection)
        return self._settings.algorithm

    def learn(self, material: UpdateMaterial, *, round: int, parent: Path) -> UpdateResult:
        """Train on the rows and on preferences of the round; without preferences, on the rows alone, like `sft`."""
        rows, name = material.rows, self.section.type
        check_rows(rows, self._stop_ids, self._settings.max_length)
        judged, counts = self.judged(material, round)
        examples = self.examples(judged, counts)
        counts["preferences"] = len(examples)
        if not examples:
            _log.warning("round %d has no preference for %s: trained on the accepted rows alone, like sft", round, name)
            result = self._supervised().fit(rows, round=round, parent=parent)
        else:
            terms = [*([example(row) for row in rows] if self.section.sft_weight else []), *examples]
            text = json.dumps([asdict(one) for one in examples])
            digest = hashlib.sha256(f"{name} {data_digest(rows)} {text}".encode()).hexdigest()
            result = self.update(terms, digest, round=round, parent=parent, smallest=self.smallest_pass)
        return replace(result, metrics={**result.metrics, **{key: float(value) for key, value in counts.items()}})

    def run(self, task: TrainingTask, items: Sequence[Example]) -> Trained:
        """Run the trainer in this process."""
        with step_progress(task, len(items)) as on_step:
            return self.train(task, items, on_step)

    def judged(self, material: UpdateMaterial, round: int) -> tuple[Judged, Counter[str]]:
        """Sort the round's accepted and refused rows by prompt; count those left out, by reason, with a warning."""
        accepted: dict[str, list[TrainingRow]] = defaultdict(list)
        for row in self.accepted(material):
            if row.origin not in ("anchor", "judge") and row.round == round:
                accepted[row.prompt_id].append(row)
        refused: dict[str, list[RefusedRow]] = defaultdict(list)
        counts: Counter[str] = Counter()
        for one in material.refused:
            known = accepted.get(one.row.prompt_id, [])
            if reason := self._fault(one, known, refused[one.row.prompt_id]):
                counts[f"refused_left_out.{reason}"] += 1
                continue
            refused[one.row.prompt_id].append(one)
            counts[f"refused_used.{one.stage}"] += 1
        left = {key: count for key, count in counts.items() if key.startswith("refused_left_out.")}
        if left:
            said = ", ".join(f"{count} {key.partition('.')[2]}" for key, count in sorted(left.items()))
            total = len(material.refused)
            _log.warning("%d of %d refused candidates are left out: %s", sum(left.values()), total, said)
        return Judged(accepted, refused), counts

    def accepted(self, material: UpdateMaterial) -> Sequence[TrainingRow]:
        """The rows among which are the round's accepted ones."""
        return material.rows

    def _fault(self, one: RefusedRow, accepted: Iterable[TrainingRow], used: Sequence[RefusedRow]) -> str:
        """The reason to leave a refused row out; empty if it can be used."""
        truncated, most_yes = one.stage == Rejection.TRUNCATED, self.section.most_yes
        if truncated and not self.section.truncated:
            return "truncated"
        if most_yes is not None and one.yes > most_yes:
            return "over_most_yes"
        _, faults = usable_rows([one.row], self._stop_ids, self._settings.max_length)
        reasons = [reason for reason, rows in faults.items() if rows and not (truncated and reason == "no_stop_token")]
        return reasons[0] if reasons else self.superfluous(one, accepted, used)

    def superfluous(self, one: RefusedRow, accepted: Iterable[TrainingRow], used: Sequence[RefusedRow]) -> str:
        """The reason to leave out a usable refused row, given those already used; empty if there is none."""
        if one.row.input_ids in [row.input_ids for row in accepted]:
            return "same_as_accepted"
        if one.row.input_ids in [other.row.input_ids for other in used]:
            return "repeated"
        assert isinstance(self.section, ContrastSection)
        return "over_refused_per_prompt" if len(used) >= self.section.refused_per_prompt else ""

    def _supervised(self) -> SftUpdater:
        return SftUpdater(
            self._store,
            self._settings,
            tokenizer=self._tokenizer,
            stop_ids=self._stop_ids,
            pad_id=self._pad_id,
            job_seed=self._job_seed,
            device=str(self._device),
            config_digest=self._config_digest,
        )

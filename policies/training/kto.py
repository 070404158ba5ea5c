"""Kahneman-Tversky optimisation (Ethayarajh et al., 2402.01306) through TRL's `KTOTrainer`, beside the supervised loss.

Accepted and refused candidates are examples of their own, so prompts without an accepted candidate count too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from policies.training.algorithm import UpdateContext
from policies.training.preferences import Example, Judged, PreferenceUpdater, example
from policies.training.run import Trained, TrainingTask


class KtoUpdater(PreferenceUpdater):
    """`kto` as a `policies.training.algorithm.Updater`."""

    smallest_pass = 2

    def examples(self, judged: Judged, counts: Counter[str]) -> list[Example]:
        """Accepted and refused rows; none at all if the round has only one kind."""
        wanted = [example(row, True) for rows in judged.accepted.values() for row in rows]
        unwanted = [example(one.row, False) for rows in judged.refused.values() for one in rows]
        return [*wanted, *unwanted] if wanted and unwanted else []

    def train(self, task: TrainingTask, items: Sequence[Example], on_step: Callable[[int], None]) -> Trained:
        """Run `KTOTrainer`, with equal total weight on both labels."""
        from trl.trainer.kto_config import KTOConfig
        from trl.trainer.kto_trainer import DataCollatorForUnpairedPreference, KTOTrainer

        from policies.training.preference_run import MixedTerms, train_preferences

        class Trainer(MixedTerms, KTOTrainer):  # type: ignore[misc]
            """`KTOTrainer` with the supervised term."""

        labels = [one.label for one in items if one.label is not None]
        total, wanted = len(labels), sum(labels)
        weights = {"desirable_weight": total / 2 / wanted, "undesirable_weight": total / 2 / (total - wanted)}
        collator = DataCollatorForUnpairedPreference(task.pad_id)
        return train_preferences(
            task, items, self._tokenizer, on_step, Trainer, KTOConfig, collator, _columns, **weights
        )


def _columns(items: Sequence[Example]) -> dict[str, list[Any]]:
    """The columns that TRL's collator reads.

    The KL divergence is estimated on answers to other prompts: here the labelled example before, in training order.
    """
    answers = [one.completion for one in items if one.label is not None]
    others = iter([answers[-1], *answers[:-1]])
    return {
        "prompt_ids": [list(one.prompt) for one in items],
        "completion_ids": [list(one.completion) for one in items],
        "KL_completion_ids": [[] if one.label is None else list(next(others)) for one in items],
        "label": [bool(one.label) for one in items],
    }


def make_updater(context: UpdateContext) -> KtoUpdater:
    """Build the updater from the configuration."""
    return KtoUpdater.of(context)

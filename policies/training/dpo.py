"""Direct preference optimisation (Rafailov et al., 2305.18290) through TRL's `DPOTrainer`, beside the supervised loss.

A pair is an accepted candidate and a refused one of the same prompt and round.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from policies.training.algorithm import UpdateContext
from policies.training.preferences import Example, Judged, PreferenceUpdater, example
from policies.training.run import Trained, TrainingTask


class DpoUpdater(PreferenceUpdater):
    """`dpo` as a `policies.training.algorithm.Updater`."""

    def examples(self, judged: Judged, counts: Counter[str]) -> list[Example]:
        """The pairs; a prompt's accepted candidates take turns."""
        return [
            example(accepted[place % len(accepted)], True, one.row)
            for prompt, accepted in judged.accepted.items()
            for place, one in enumerate(judged.refused.get(prompt, ()))
        ]

    def train(self, task: TrainingTask, items: Sequence[Example], on_step: Callable[[int], None]) -> Trained:
        """Run `DPOTrainer`."""
        from trl.trainer.dpo_config import DPOConfig
        from trl.trainer.dpo_trainer import DataCollatorForPreference, DPOTrainer

        from policies.training.preference_run import MixedTerms, train_preferences

        class Trainer(MixedTerms, DPOTrainer):  # type: ignore[misc]
            """`DPOTrainer` with the supervised term."""

        return train_preferences(
            task, items, self._tokenizer, on_step, Trainer, DPOConfig, DataCollatorForPreference(task.pad_id), _columns
        )


def _columns(items: Sequence[Example]) -> dict[str, list[Any]]:
    """The columns that TRL's collator reads."""
    return {
        "prompt_ids": [list(one.prompt) for one in items],
        "chosen_ids": [list(one.completion) for one in items],
        "rejected_ids": [list(one.against) for one in items],
    }


def make_updater(context: UpdateContext) -> DpoUpdater:
    """Build the updater from the configuration."""
    return DpoUpdater.of(context)

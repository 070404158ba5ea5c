"""Group relative policy optimisation (Shao et al., 2402.03300) through TRL's `GRPOTrainer`, beside the supervised loss.

A group is what was judged of a prompt anyway; nothing is sampled or judged for the update. An answer's reward is 1 if
the cascade accepted it and 0 if it refused it with certainty; its advantage is the reward minus the group's mean, over
the group's standard deviation. Groups of equal reward have no advantage and are left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from statistics import fmean, stdev
from typing import Any

from policies.training.algorithm import UpdateContext
from policies.training.preferences import Example, Judged, PreferenceUpdater, example
from policies.training.rows import usable_rows
from policies.training.run import Trained, TrainingTask
from svd_loop.config.update import GrpoSection
from svd_loop.contracts import RefusedRow, TrainingRow, UpdateMaterial


class GrpoUpdater(PreferenceUpdater):
    """`grpo` as a `policies.training.algorithm.Updater`."""

    def accepted(self, material: UpdateMaterial) -> Sequence[TrainingRow]:
        """A group has the accepted candidates that were not selected as well."""
        siblings, _ = usable_rows(material.siblings, self._stop_ids, self._settings.max_length)
        return [*material.rows, *siblings]

    def superfluous(self, one: RefusedRow, accepted: Iterable[TrainingRow], used: Sequence[RefusedRow]) -> str:
        """A group is a sample of the policy: what it says twice counts twice."""
        return ""

    def examples(self, judged: Judged, counts: Counter[str]) -> list[Example]:
        """All answers of the groups that have an advantage."""
        found: list[Example] = []
        for prompt in dict.fromkeys([*judged.accepted, *judged.refused]):
            wanted, unwanted = judged.accepted.get(prompt, ()), judged.refused.get(prompt, ())
            if not (wanted and unwanted):
                counts["groups_of_equal_reward"] += bool(wanted or unwanted)
                continue
            counts["groups"] += 1
            rewards = [*[1.0] * len(wanted), *[0.0] * len(unwanted)]
            mean, spread = fmean(rewards), stdev(rewards)
            found += [example(row, True, advantage=(1 - mean) / spread) for row in wanted]
            found += [example(one.row, False, advantage=-mean / spread) for one in unwanted]
        return found

    def train(self, task: TrainingTask, items: Sequence[Example], on_step: Callable[[int], None]) -> Trained:
        """Run `GRPOTrainer`."""
        from policies.training.grpo_run import GivenCollator, GivenTrainer, configuration
        from policies.training.preference_run import train_preferences

        assert isinstance(self.section, GrpoSection)
        return train_preferences(
            task,
            items,
            self._tokenizer,
            on_step,
            GivenTrainer,
            configuration,
            GivenCollator(task.pad_id),
            _columns,
            epsilon=self.section.clip,
        )


def _columns(items: Sequence[Example]) -> dict[str, list[Any]]:
    """The columns that the collator reads."""
    return {
        "prompt_ids": [list(one.prompt) for one in items],
        "completion_ids": [list(one.completion) for one in items],
        "advantage": [one.advantage for one in items],
        "reward": [float(bool(one.label)) for one in items],
    }


def make_updater(context: UpdateContext) -> GrpoUpdater:
    """Build the updater from the configuration."""
    return GrpoUpdater.of(context)

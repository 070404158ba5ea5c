"""TRL's `GRPOTrainer` on given answers: nothing is generated, and the loss is TRL's own.

The ratios of the loss are to the log-probabilities of the version that sampled the answers, which is the one that the
update starts from. They are computed once, before the first step, and serve as the reference of the KL term as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import torch
from transformers import Trainer
from trl import import_utils
from trl.models.utils import disable_gradient_checkpointing
from trl.trainer.grpo_config import GRPOConfig
from trl.trainer.utils import pad

from policies.training.preference_run import MixedTerms

# Where vLLM is installed, TRL would import it, which takes seconds, and warn if it does not know its version.
with patch.object(import_utils, "is_vllm_available", lambda *_, **__: False):  # nothing is generated here
    from trl.trainer.grpo_trainer import GRPOTrainer


@dataclass(frozen=True, slots=True)
class GivenCollator:
    """Pads prompts on the left and answers on the right, as TRL's loss expects."""

    pad_id: int

    def __call__(self, examples: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        """`prompt_ids`, `completion_ids` and their masks (B, T); `advantages`, `rewards` (B); log-probabilities."""
        columns: dict[str, torch.Tensor] = {}
        for name, side in (("prompt", "left"), ("completion", "right")):
            ids = [torch.tensor(one[f"{name}_ids"]) for one in examples]
            columns[f"{name}_ids"] = pad(ids, self.pad_id, side)
            columns[f"{name}_mask"] = pad([torch.ones_like(one) for one in ids], 0, side)
        columns["advantages"] = torch.tensor([one["advantage"] for one in examples])
        columns["rewards"] = torch.tensor([one["reward"] for one in examples])
        if "start_logps" in examples[0]:
            start = pad([torch.tensor(one["start_logps"]) for one in examples])
            columns |= {"old_per_token_logps": start, "ref_per_token_logps": start}
        return columns


class GivenTrainer(MixedTerms, GRPOTrainer):  # type: ignore[misc]
    """`GRPOTrainer` with the supervised term, and batches that are ready."""

    loss_is_scaled_for_ga = False  # as the mixin expects

    def __init__(self, *, data_collator: Any, **arguments: Any) -> None:
        no_reward: Any = _no_reward
        super().__init__(reward_funcs=no_reward, **arguments)
        self.data_collator = data_collator

    def score_start(self, beta: float) -> None:
        """Add the starting weights' log-probabilities to the data.

        The weight of the KL term is set here, because TRL would have loaded a second copy of the weights for it.
        """
        self.beta = beta
        data: Any = self.train_dataset
        model: Any = self.model
        collate: Any = self.data_collator
        recomputing: Any = self.args.gradient_checkpointing_kwargs
        size = self.args.per_device_train_batch_size
        different = {_tokens(one): one for one in data if one["is_judged"]}
        found: dict[Any, list[float]] = {}
        with torch.no_grad(), disable_gradient_checkpointing(model, recomputing):
            for first in range(0, len(different), size):
                keys = list(different)[first : first + size]
                batch = self._prepare_inputs(collate.judged([different[key] for key in keys]))
                ids, mask = (
                    torch.cat([batch[f"prompt_{kind}"], batch[f"completion_{kind}"]], 1) for kind in ("ids", "mask")
                )
                logps, *_ = self._get_per_token_logps_and_entropies(model, ids, mask, batch["completion_ids"].size(1))
                found |= {key: row[: len(key[1])].tolist() for key, row in zip(keys, logps, strict=True)}
        self.train_dataset = data.add_column("start_logps", [found.get(_tokens(one), []) for one in data])

    def get_train_dataloader(self) -> Any:
        """Rows in their order, a forward pass at a time."""
        return Trainer.get_train_dataloader(self)

    def _get_train_sampler(self, dataset: Any = None) -> Any:
        return Trainer._get_train_sampler(self, dataset)

    def _prepare_inputs(self, batch: Any) -> Any:
        return Trainer._prepare_inputs(self, batch)

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Any:
        """TRL's loss over the examples of this forward pass, as their mean."""
        self._metrics["train"]["reward"].append(inputs["rewards"].mean().item())
        return super()._compute_loss(model, inputs) * self.current_gradient_accumulation_steps


def configuration(
    *, beta: float, precompute_ref_log_probs: bool, max_length: None, per_device_train_batch_size: int, **keys: Any
) -> GRPOConfig:
    """The trainer's arguments; those about generation are without effect, but have to be consistent."""
    return GRPOConfig(
        **keys,
        per_device_train_batch_size=per_device_train_batch_size,
        num_generations=2,
        generation_batch_size=2 * per_device_train_batch_size,
        beta=0.0,
        loss_type="grpo",
        disable_dropout=True,
    )


def _tokens(one: Mapping[str, Any]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return tuple(one["prompt_ids"]), tuple(one["completion_ids"])


def _no_reward(**_: Any) -> list[float]:
    raise NotImplementedError("rewards are given")

"""TRL's `SFTTrainer` with a fast language-model head on a CPU, and callbacks.

TRL scores tokens through a fused head that never builds the logits: right for a GPU and a large vocabulary. Without
Triton it scores every position, prompts and padding too, and computes the head twice and an unused entropy;
on the embedded model that was a third of an update. `SupervisedTrainer` then asks the model itself for the logits of
the supervised positions alone, which is the same loss.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback
from trl.trainer.sft_trainer import SFTTrainer

from policies.training.footprint import BUILT_LOGITS
from svd_loop.errors import TrainingError


class SupervisedTrainer(SFTTrainer):  # type: ignore[misc]
    """`SFTTrainer` whose loss on a CPU computes only the supervised positions."""

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Summed negative log-likelihood of the supervised tokens over their number in the whole batch.

        Args:
            model: may be wrapped.
            inputs: `input_ids` and `labels` (B, T), and the collator's other columns.
            return_outputs: not used in training.
            num_items_in_batch: supervised tokens of the optimizer step, over all processes.
        """
        labels = inputs["labels"]
        # Position t predicts token t + 1; columns without supervised tokens in any row are not computed.
        columns = (labels[:, 1:] != -100).any(dim=0).nonzero().squeeze(1)
        if return_outputs or num_items_in_batch is None or not self._builds_logits(labels, len(columns)):
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        rest = {name: value for name, value in inputs.items() if name != "labels"}
        logits = model(**{**rest, "use_cache": False, "logits_to_keep": columns}).logits
        loss = torch.nn.functional.cross_entropy(
            logits.float().flatten(0, 1), labels[:, columns + 1].flatten(), ignore_index=-100, reduction="sum"
        )
        # Gradients are averaged over the processes, but tokens are counted over all of them.
        return loss / num_items_in_batch.clamp(min=1) * self.accelerator.num_processes

    def _builds_logits(self, labels: torch.Tensor, columns: int) -> bool:
        if labels.device.type != "cpu" or self.aux_loss_enabled:
            return False
        plain = self.accelerator.unwrap_model(self.model)
        plain = plain.get_base_model() if hasattr(plain, "get_base_model") else plain
        if "logits_to_keep" not in inspect.signature(type(plain).forward).parameters:
            return False
        logits = labels.shape[0] * columns * int(plain.config.get_text_config().vocab_size)
        return logits * 4 <= BUILT_LOGITS


class Watcher(TrainerCallback):  # type: ignore[misc]
    """Callback: inspects the model before the first step, stops at a non-finite loss or gradient, counts steps.

    Attributes:
        resumed_at: optimizer steps that a checkpoint had already done.
    """

    def __init__(self, on_step: Callable[[int], None], on_begin: Callable[[Any], None]) -> None:
        self._on_step = on_step
        self._on_begin = on_begin
        self.resumed_at = 0

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        """Called when the model is on its device, sharded if it will be."""
        self.resumed_at = state.global_step
        self._on_begin(model)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        """Stop at a non-finite value; every process sees the same values, so all of them stop."""
        if not logs or "loss" not in logs:
            return
        loss, norm = float(logs["loss"]), float(logs.get("grad_norm", 0.0))
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise TrainingError(
                f"step {state.global_step}: the loss is {loss} and the gradient norm {norm}; lower "
                f"update.learning_rate (it is {args.learning_rate:g}) or raise update.warmup. "
                "No version was written"
            )

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """`state.global_step` is the number of finished steps, those before an interruption included."""
        self._on_step(state.global_step)


def full_state(trainer: Any, work: Path) -> dict[str, Any] | None:
    """All weights in single precision, on process 0 (the others may get None); every process has to call this.

    DeepSpeed in half precision keeps its single-precision weights in the optimizer, from where only a checkpoint of
    its own brings them back: its consolidated weights have been rounded.
    """
    if trainer.is_deepspeed_enabled:
        from deepspeed.utils.zero_to_fp32 import get_fp32_state_dict_from_zero_checkpoint

        folder = work / "deepspeed"
        trainer.model_wrapped.save_checkpoint(str(folder))
        trainer.accelerator.wait_for_everyone()
        state = get_fp32_state_dict_from_zero_checkpoint(str(folder)) if trainer.is_world_process_zero() else None
        trainer.accelerator.wait_for_everyone()
        return state
    return dict(trainer.accelerator.get_state_dict(trainer.model_wrapped))

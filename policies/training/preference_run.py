"""One run of a preference trainer of TRL, with the supervised term in the same batches.

TRL's own preparation of the data (chat template, truncation, an end token) is bypassed: columns hold the sampled ids.
The loss of an optimizer step is the mean preference loss over its examples, plus `sft_weight` times the mean
negative log-likelihood over its supervised tokens, however the step is divided into forward passes.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers.trainer_callback import PrinterCallback
from transformers.utils import logging as library_logging
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from policies.training.preferences import Example
from policies.training.run import (
    Trained,
    TrainingTask,
    common_arguments,
    keep,
    new_adapter,
    row_order,
    run_metrics,
    save_model,
    starting_model,
    train_to_end,
)
from policies.training.sft_trainer import Watcher
from policies.versions.stored import stored_version
from svd_loop.config.update import PreferenceSection
from svd_loop.contracts import TrainingRow

_LOGGED = {
    "preference_loss": "preference_loss",
    "sft_loss": "sft_loss",
    "rewards/chosen": "reward_accepted",
    "rewards/rejected": "reward_refused",
    "rewards/margins": "reward_margin",
    "rewards/accuracies": "reward_accuracy",
    "kl": "kl",
    "reward": "reward",
    "entropy": "entropy",
    "clip_ratio/region_mean": "clipped",
}
"""TRL's name of a logged figure, and ours in the round's metrics: the mean over the steps that have it."""


@dataclass(frozen=True, slots=True)
class Collator:
    """Splits a batch by term, each for TRL's collator of its kind; an absent term is an empty mapping."""

    judged: Any
    supervised: Any

    def __call__(self, examples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """`is_judged` (B), `judged`, `supervised`, and the share of the step's mean of one judged example or token."""
        judged = [one for one in examples if one["is_judged"]]
        rows = [{"input_ids": one["row_ids"], "labels": one["labels"]} for one in examples if not one["is_judged"]]
        return {
            "is_judged": torch.tensor([one["is_judged"] for one in examples]),
            "share": torch.tensor([[one["judged_share"], one["token_share"]] for one in examples]),
            "judged": self.judged(judged) if judged else {},
            "supervised": self.supervised(rows) if rows else {},
        }


class MixedTerms:
    """Mixin before a preference trainer of TRL: adds the supervised term, and leaves the data as it is."""

    sft_weight = 1.0
    _metrics: Any
    current_gradient_accumulation_steps: int

    def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
        return dataset

    def score_start(self, beta: float) -> None:
        """Compute what the loss needs of the starting weights, unless the trainer has done so by now."""

    def compute_ref_log_probs(self, model: Any, inputs: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
        """TRL's two figures of each judged example, and zeros for rows of the supervised term."""
        place = inputs["is_judged"]
        found = super().compute_ref_log_probs(model, inputs["judged"]) if inputs["judged"] else ()  # type: ignore[misc]
        first, second = (torch.zeros(len(place), device=place.device) for _ in range(2))
        for column, values in zip((first, second), found, strict=False):
            column[place] = values.float()
        return first, second

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """This forward pass's part of the step's loss."""
        logged, (judged_share, token_share) = self._metrics["train"], inputs["share"][0]
        loss = torch.zeros((), device=inputs["is_judged"].device)
        if inputs["judged"]:
            part = super().compute_loss(model, inputs["judged"])  # type: ignore[misc]
            logged["preference_loss"].append(part.item())
            loss = loss + part * inputs["is_judged"].sum() * judged_share
        if inputs["supervised"]:
            nll = -model(**inputs["supervised"], use_cache=False, fused_lm_head=True).log_probs.sum()
            tokens = (inputs["supervised"]["labels"][:, 1:] != -100).sum().clamp(min=1)
            logged["sft_loss"].append((nll / tokens).item())
            loss = loss + self.sft_weight * nll * token_share
        # The trainer divides by the number of forward passes; the shares have done so already.
        return loss * self.current_gradient_accumulation_steps


def train_preferences(
    task: TrainingTask,
    items: Sequence[Example],
    tokenizer: Any,
    on_step: Callable[[int], None],
    trainer_class: Any,
    config_class: Any,
    collator: Any,
    columns: Callable[[Sequence[Example]], dict[str, list[Any]]],
    **arguments: float,
) -> Trained:
    """Run a preference trainer to its end, starting from its newest checkpoint if there is one.

    Args:
        task: the run.
        items: examples of both terms, checked.
        tokenizer: the base's; nothing is tokenised.
        on_step: called with the number of finished optimizer steps.
        trainer_class: TRL's trainer behind `MixedTerms`.
        config_class: its arguments.
        collator: TRL's, for the preference term.
        columns: what it reads, of examples in training order.
        arguments: further arguments of the trainer.

    Raises:
        TrainingError: a loss or gradient that is not finite.
    """
    section, start = task.settings.algorithm, stored_version(task.start)
    assert isinstance(section, PreferenceSection)
    ordered = [items[index] for index in row_order(task, [one.tokens for one in items])]
    configuration = config_class(
        **common_arguments(task, task.steps(len(items))),
        beta=section.beta,
        precompute_ref_log_probs=True,
        remove_unused_columns=False,
        **arguments,
    )
    watcher = Watcher(lambda step: keep(trainer, task, len(items), step, on_step), lambda model: None)
    trainer = _ready(
        trainer_class,
        section,
        model=starting_model(task, start),
        args=configuration,
        data_collator=Collator(collator, DataCollatorForLanguageModeling(pad_token_id=task.pad_id)),
        train_dataset=_dataset(ordered, columns, task.settings.batch_size),
        processing_class=tokenizer,
        peft_config=new_adapter(task, start),
        callbacks=[watcher],
    )
    seconds = train_to_end(trainer, task)
    done = ordered[watcher.resumed_at * task.settings.batch_size :]
    metrics = _metrics(trainer.state.log_history, ordered, section.beta)
    metrics |= {"tokens_per_second": sum(map(_sequence_tokens, done)) / seconds, "training_seconds": seconds}

    def save(folder: Path) -> None:
        save_model(trainer, task, folder)

    return Trained(save, metrics, task.steps(len(items)))


def _ready(trainer_class: Any, section: PreferenceSection, **arguments: Any) -> Any:
    """A trainer that has what it needs of the starting weights, and holds no second copy of them."""
    library_logging.set_verbosity_error()
    with _without_bars():
        trainer = trainer_class(**arguments)
        trainer.score_start(section.beta)
    trainer.sft_weight = section.sft_weight
    trainer.remove_callback(PrinterCallback)
    _drop_reference(trainer.model)
    return trainer


@contextmanager
def _without_bars() -> Iterator[None]:
    """Without the progress bars of TRL and datasets, which know nothing of the job's own."""
    import datasets

    shown, before = not datasets.are_progress_bars_disabled(), os.environ.get("TQDM_DISABLE")
    os.environ["TQDM_DISABLE"] = "1"
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        os.environ.pop("TQDM_DISABLE") if before is None else os.environ.__setitem__("TQDM_DISABLE", before)
        if shown:
            datasets.enable_progress_bars()


def _drop_reference(model: Any) -> None:
    """Delete TRL's copy of the starting adapter, whose log-probabilities are computed by now."""
    if "ref" in getattr(model, "peft_config", {}):
        model.delete_adapter("ref")


def _dataset(ordered: Sequence[Example], columns: Callable[..., dict[str, list[Any]]], batch_size: int) -> Any:
    from datasets import Dataset

    data: dict[str, list[Any]] = {**columns(ordered), "judged_share": [], "token_share": []}
    data["is_judged"] = [one.label is not None for one in ordered]
    data["row_ids"] = [[*one.prompt, *one.completion] for one in ordered]
    data["labels"] = [[-100] * len(one.prompt) + list(one.completion) for one in ordered]
    for first in range(0, len(ordered), batch_size):
        step = ordered[first : first + batch_size]
        judged = sum(one.label is not None for one in step)
        tokens = sum(len(one.completion) for one in step if one.label is None)
        data["judged_share"] += [1 / max(1, judged)] * len(step)
        data["token_share"] += [1 / max(1, tokens)] * len(step)
    return Dataset.from_dict(data)


def _metrics(history: Sequence[Mapping[str, Any]], ordered: Sequence[Example], beta: float) -> dict[str, float]:
    rows = [TrainingRow((*one.prompt, *one.completion), len(one.prompt), "") for one in ordered]
    rows += [TrainingRow((*one.prompt, *one.against), len(one.prompt), "") for one in ordered if one.against]
    metrics = run_metrics(history, rows)
    for logged, name in _LOGGED.items():
        values = [float(entry[logged]) for entry in history if "loss" in entry and logged in entry]
        if values:
            metrics[name] = math.fsum(values) / len(values)
    if "kl" not in metrics and "reward_accepted" in metrics:
        # Of the reference's samples: the mean log-ratio of reference to policy, half of them accepted.
        metrics["kl"] = -(metrics["reward_accepted"] + metrics["reward_refused"]) / 2 / beta
    return metrics


def _sequence_tokens(one: Example) -> int:
    return len(one.prompt) + len(one.completion) + (len(one.prompt) + len(one.against) if one.against else 0)

"""One run of the trainer, in the job's own process or in each of several (`policies.training.launching`).

Rows come tokenised, with the loss on the answer alone: exactly what was sampled is what is learned, and no chat
template or truncation of the trainer is ever involved. Weights train and are stored in single precision whatever the
base was published in, since small updates would be rounded away.
"""

from __future__ import annotations

import json
import logging
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from policies.training.isolation import require_isolation
from policies.training.rows import candidate_steps, dataset_columns, sample_count, training_order
from policies.versions.checkpoints import foundation, load_checkpoint, load_model
from policies.versions.precision import trains_in_bfloat16
from policies.versions.stored import StoredVersion, stored_version
from svd_loop.config.update import UpdateSection
from svd_loop.contracts import TrainingRow
from svd_loop.errors import ConfigError, TrainingError
from svd_loop.support.progress import progress

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TrainingTask:
    """The inputs of a run beside its rows.

    Attributes:
        settings: the `update` section.
        start: folder of the version whose weights it starts from.
        work: folder for checkpoints, and for what processes tell each other.
        seed: decides order and dropout.
        micro_batch: rows per forward pass of a process; divides the process's share of the batch.
        pad_id: fills short rows; masked by length, so that a true end token is never hidden.
        device: `cpu` or `cuda`.
        label: names the run in progress lines.
    """

    settings: UpdateSection
    start: Path
    work: Path
    seed: int
    micro_batch: int
    pad_id: int
    device: str
    label: str

    def dump(self) -> str:
        """As JSON text."""
        fields = {name: getattr(self, name) for name in ("seed", "micro_batch", "pad_id", "device", "label")}
        paths = {"start": str(self.start.resolve()), "work": str(self.work.resolve())}
        return json.dumps({**fields, **paths, "settings": self.settings.model_dump(mode="json")}, indent=2)

    @classmethod
    def parse(cls, text: str) -> TrainingTask:
        """The inverse of `dump`."""
        fields = json.loads(text)
        fields |= {"start": Path(fields["start"]), "work": Path(fields["work"])}
        return cls(**{**fields, "settings": UpdateSection.model_validate(fields["settings"])})

    def steps(self, rows: int) -> int:
        """Optimizer steps of a run over `rows` rows."""
        return math.ceil(self.samples(rows) / self.settings.batch_size)

    def candidates(self, rows: int) -> tuple[int, ...]:
        """Steps whose checkpoints are kept to choose from, the last step included; empty if there is no choice."""
        return candidate_steps(self.steps(rows), self.settings.choose_from)

    def candidate(self, step: int) -> Path:
        """Folder of the model's files after a step that is kept to choose from."""
        return self.work / "candidates" / str(step)

    def samples(self, rows: int) -> int:
        """Rows drawn in a run over `rows` rows."""
        settings = self.settings
        return sample_count(rows, epochs=settings.epochs, steps=settings.steps, batch_size=settings.batch_size)


@dataclass(frozen=True, slots=True)
class Trained:
    """A finished run; `save` writes the model's files into an empty folder, without the tokenizer."""

    save: Callable[[Path], None]
    metrics: Mapping[str, float]
    steps: int


def train(
    task: TrainingTask, rows: Sequence[TrainingRow], tokenizer: Any, on_step: Callable[[int], None] = lambda step: None
) -> Trained:
    """Run the trainer to its end, starting from its newest checkpoint if there is one.

    Args:
        task: the run.
        rows: the training rows, validated.
        tokenizer: the base's; the trainer requires one, although nothing is tokenised.
        on_step: called with the number of finished optimizer steps.

    Raises:
        ConfigError: packing or the attention implementation cannot be used.
        TrainingError: a loss or gradient that is not finite.
    """
    from transformers.trainer_callback import PrinterCallback
    from transformers.utils import logging as library_logging
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

    from policies.training.sft_trainer import SupervisedTrainer, Watcher

    settings, start = task.settings, stored_version(task.start)
    order = row_order(task, [len(row.input_ids) for row in rows])
    library_logging.set_verbosity_error()
    common = common_arguments(task, task.steps(len(rows)))
    # Before the model, because it decides how processes load it.
    arguments = SFTConfig(**common, dataset_kwargs={"skip_prepare_dataset": True})
    if task.device == "cpu":
        _let_cpu_processes_shard(arguments)
    # TRL's collator masks by length, never by id: a true end token keeps its loss.
    collator = DataCollatorForLanguageModeling(pad_token_id=task.pad_id, padding_free=settings.packing)

    def look(model: Any) -> None:
        _require_strategy(trainer)
        if settings.packing:
            require_isolation(model, rows, collator, "bfloat16" if arguments.bf16 else "float32")

    watcher = Watcher(lambda step: keep(trainer, task, len(rows), step, on_step), look)
    trainer = SupervisedTrainer(
        model=starting_model(task, start),
        args=arguments,
        data_collator=collator,
        train_dataset=_dataset(rows, order, task),
        processing_class=tokenizer,
        peft_config=new_adapter(task, start),
        callbacks=[watcher],
    )
    trainer.remove_callback(PrinterCallback)
    seconds = train_to_end(trainer, task)
    ordered = [rows[index] for index in order]
    metrics = run_metrics(trainer.state.log_history, ordered)
    tokens = sum(len(row.input_ids) for row in ordered[watcher.resumed_at * settings.batch_size :])
    metrics |= {"tokens_per_second": tokens / seconds, "training_seconds": seconds}
    return Trained(lambda folder: save_model(trainer, task, folder), metrics, task.steps(len(rows)))


@contextmanager
def step_progress(task: TrainingTask, items: int) -> Iterator[Callable[[int], None]]:
    """Show the progress of a run; yields a function to call with the number of finished steps."""
    with progress(f"{task.label} trains", task.steps(items), "steps") as bar:
        done = 0

        def on_step(step: int) -> None:
            nonlocal done
            bar.advance(step - done)
            done = step

        yield on_step


def keep(trainer: Any, task: TrainingTask, items: int, step: int, on_step: Callable[[int], None]) -> None:
    """After a step of a run over `items` items: save a checkpoint that is kept to choose from; every process calls."""
    if step in task.candidates(items)[:-1]:  # the last one is the result
        task.candidate(step).mkdir(parents=True, exist_ok=True)
        save_model(trainer, task, task.candidate(step))
    on_step(step)


def train_to_end(trainer: Any, task: TrainingTask) -> float:
    """Train from the newest checkpoint to the end; return the seconds it took."""
    began = time.monotonic()
    trainer.train(resume_from_checkpoint=_newest_checkpoint(task.work))
    return time.monotonic() - began


def row_order(task: TrainingTask, lengths: Sequence[int]) -> list[int]:
    """Return the indices of rows of these lengths in training order."""
    samples, batch_size = task.samples(len(lengths)), task.settings.batch_size
    return training_order(lengths, samples=samples, batch_size=batch_size, seed=task.seed)


def starting_model(task: TrainingTask, start: StoredVersion) -> Any:
    """The model to train: all weights, or an earlier adapter to continue."""
    if task.settings.method == "lora" and start.kind == "lora":
        from peft import PeftModel

        base = _attending(load_checkpoint(foundation(start), "float32"), task)
        return PeftModel.from_pretrained(base, str(start.path), is_trainable=True)
    return _attending(load_model(start, dtype="float32", device="cpu"), task)


def _attending(model: Any, task: TrainingTask) -> Any:
    """The model with the configured attention implementation."""
    if (wanted := task.settings.attention) is not None:
        try:
            model.set_attn_implementation(wanted)
        except (ImportError, ValueError) as error:
            raise ConfigError(f"update.attention: {wanted} cannot be used: {error}") from None
    return model


def new_adapter(task: TrainingTask, start: StoredVersion) -> Any:
    """The configuration of a new adapter, or None if none is needed."""
    if task.settings.method != "lora" or start.kind == "lora":
        return None
    from peft import LoraConfig

    lora = task.settings.lora
    return LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        use_rslora=lora.rslora,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )


def common_arguments(task: TrainingTask, steps: int) -> dict[str, Any]:
    """The training arguments that all algorithms share."""
    settings = task.settings
    cpu = task.device == "cpu"
    half = trains_in_bfloat16(settings.bf16, on_gpu=not cpu)
    if settings.bf16 and not half:
        _log.warning(
            "update.bf16: true needs a GPU, or a processor with instructions for it (AVX512_BF16, AMX); training in "
            "single precision"
        )
    scheduler = {"constant": "constant_with_warmup"}.get(settings.schedule, settings.schedule)
    if settings.minimum_rate:
        scheduler = "cosine_with_min_lr"
    return {
        "output_dir": str(task.work),
        "per_device_train_batch_size": task.micro_batch,
        "gradient_accumulation_steps": settings.batch_size // (settings.launch.processes * task.micro_batch),
        "max_steps": steps,
        "learning_rate": settings.learning_rate,
        "lr_scheduler_type": scheduler,
        "lr_scheduler_kwargs": {"min_lr_rate": settings.minimum_rate} if settings.minimum_rate else None,
        "adam_beta1": settings.betas[0],
        "adam_beta2": settings.betas[1],
        # The first step of a warm-up has rate 0, so a run of one step would learn nothing.
        "warmup_steps": min(math.ceil(settings.warmup * steps), steps - 1),
        "weight_decay": settings.weight_decay,
        "max_grad_norm": settings.max_grad_norm,
        "optim": "adamw_torch",
        "bf16": half,
        "gradient_checkpointing": settings.gradient_checkpointing,
        "use_cpu": cpu,
        "seed": task.seed,
        "train_sampling_strategy": "sequential",
        "average_tokens_across_devices": True,
        "ddp_find_unused_parameters": False,
        "max_length": None,
        "save_strategy": "steps" if settings.checkpoint_steps else "no",
        "save_steps": settings.checkpoint_steps or 500,
        "save_total_limit": 2,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": not cpu,
    }


def _let_cpu_processes_shard(arguments: Any) -> None:
    """Let FSDP work on a CPU: accelerate (1.15) takes it up for accelerators alone, else runs DDP and says nothing."""
    if os.environ.get("ACCELERATE_USE_FSDP") != "true":
        return
    from accelerate.utils import DistributedType

    # The state from which the accelerator is made; the arguments have replaced any earlier one.
    arguments.distributed_state.distributed_type = DistributedType.MULTI_GPU


def _require_strategy(trainer: Any) -> None:
    """Refuse to continue if shards were configured but every process would hold a full copy of the model."""
    from torch.distributed.tensor import DTensor

    if os.environ.get("ACCELERATE_USE_DEEPSPEED") == "true" and not trainer.is_deepspeed_enabled:
        raise TrainingError("accelerate was configured for DeepSpeed and does not use it; see update.launch")
    fsdp2 = os.environ.get("ACCELERATE_USE_FSDP") == "true" and os.environ.get("FSDP_VERSION") == "2"
    if fsdp2 and not any(isinstance(parameter, DTensor) for parameter in trainer.model.parameters()):
        raise TrainingError("accelerate was configured for FSDP2 and did not shard the model; see update.launch")


def _dataset(rows: Sequence[TrainingRow], order: Sequence[int], task: TrainingTask) -> Any:
    """Rows in training order.

    Several processes need equally many rows each: the last batch is filled with rows that have no loss, where
    accelerate would repeat rows of the first.
    """
    from datasets import Dataset

    columns = dataset_columns(rows)
    missing = -len(order) % task.settings.batch_size if task.settings.launch.processes > 1 else 0
    columns["input_ids"].append([task.pad_id, task.pad_id])
    columns["labels"].append([-100, -100])
    return Dataset.from_dict(columns).select([*order, *[len(rows)] * missing])


def run_metrics(history: Sequence[Mapping[str, Any]], drawn: Sequence[TrainingRow]) -> dict[str, float]:
    """Metrics of a whole run: the trainer's history is part of its checkpoints, so an interruption changes none."""
    logged = [entry for entry in history if "loss" in entry]
    norms = [float(entry.get("grad_norm", 0.0)) for entry in logged]
    rates = [float(entry["learning_rate"]) for entry in logged]
    return {
        "loss": math.fsum(entry["loss"] for entry in logged) / max(1, len(logged)),
        "final_loss": float(logged[-1]["loss"]) if logged else math.nan,
        "gradient_norm": math.fsum(norms) / max(1, len(norms)),
        "largest_gradient_norm": max(norms, default=math.nan),
        "learning_rate": math.fsum(rates) / max(1, len(rates)),
        "largest_learning_rate": max(rates, default=math.nan),
        "steps": float(len(logged)),
        "tokens": float(sum(len(row.input_ids) for row in drawn)),
        "supervised_tokens": float(sum(len(row.input_ids) - row.supervised_from for row in drawn)),
    }


def save_model(trainer: Any, task: TrainingTask, folder: Path) -> None:
    """Write the model's files; in a run of several processes each has to call this, and process 0 writes."""
    from policies.training.sft_trainer import full_state

    model = trainer.accelerator.unwrap_model(trainer.model)
    if not task.settings.launch.apart:
        model.save_pretrained(folder)
    else:
        state = full_state(trainer, task.work)
        if trainer.is_world_process_zero():
            model.save_pretrained(folder, state_dict=state)
    if task.settings.method == "lora" and trainer.is_world_process_zero():
        _settle_adapter_config(folder / "adapter_config.json")


def _newest_checkpoint(work: Path) -> str | None:
    """The newest complete training checkpoint: the trainer writes its state file last."""
    found = sorted(work.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]), reverse=True)
    for path in found:
        try:
            json.loads((path / "trainer_state.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        _log.warning("continuing from training checkpoint %s", path)
        return str(path)
    return None


def _settle_adapter_config(path: Path) -> None:
    """Make the file deterministic: PEFT writes sets in arbitrary order, and the base's location."""
    config = json.loads(path.read_text(encoding="utf-8"))
    config["target_modules"] = sorted(config["target_modules"])
    config["base_model_name_or_path"] = None
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")

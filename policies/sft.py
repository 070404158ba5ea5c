"""The update: supervised fine-tuning of the sampled token ids through TRL's `SFTTrainer`, full or LoRA.

Rows come tokenised, with the loss on the answer alone: exactly what was sampled is what is learned, and no chat
template or truncation of the trainer is ever involved. The finished weights go to the `WeightStore`; on a CPU the
same rows give the same bits. Weights train and are stored in single precision whatever the base was published in,
since small updates would be rounded away. Left out: packing (it leaks between rows without variable-length kernels).
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import shutil
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from policies.loading import foundation, load_checkpoint, load_model, resolve_device
from policies.memory import is_out_of_memory, release_gpu_memory
from policies.training_rows import check_rows, data_digest, sample_count, training_order
from policies.versions import StoredVersion, read_manifest, stored_version
from policies.weights import Origin, WeightStore
from svd_loop.config.sections import UpdateSection
from svd_loop.contracts import PolicyVersion, TrainingRow, UpdateResult
from svd_loop.errors import TrainingError
from svd_loop.progress import Progress, progress

_log = logging.getLogger(__name__)


class SftUpdater:
    """Implements `svd_loop.contracts.Updater`.

    Args:
        store: where versions go; round 0 must be stored.
        settings: the `update` section.
        tokenizer: saved with full versions; names the padding id.
        stop_ids: tokens an answer may end in.
        pad_id: fills short rows; masked by length, so that a true end token is never hidden.
        job_seed: with the round, decides order and dropout.
        device: `auto`, `cpu` or `cuda`.
        config_digest: recorded with each version, compared when a finished update is found again.
    """

    def __init__(
        self,
        store: WeightStore,
        settings: UpdateSection,
        *,
        tokenizer: Any,
        stop_ids: Collection[int],
        pad_id: int,
        job_seed: int = 0,
        device: str = "auto",
        config_digest: str = "",
    ) -> None:
        self._store = store
        self._settings = settings
        self._tokenizer = tokenizer
        self._stop_ids = frozenset(stop_ids)
        self._pad_id = pad_id
        self._job_seed = job_seed
        self._device = resolve_device(device)
        self._config_digest = config_digest

    def fit(self, rows: Sequence[TrainingRow], *, round: int, parent: Path) -> UpdateResult:
        """Train on `rows` and store the result as version `round`.

        An update that was finished before (same rows, same configuration, intact files) is not repeated; one that
        was interrupted goes on from its newest checkpoint, where `checkpoint_steps` asks for them.

        Args:
            rows: token ids, loss on `input_ids[supervised_from:]`.
            round: the version to make, at least 1.
            parent: the previous version's folder.

        Raises:
            TrainingError: unusable rows, a loss or gradient that is not finite, or not enough memory.
            WeightsError: the parent is missing, or the result cannot be written.
        """
        check_rows(rows, self._stop_ids, self._settings.max_length)
        digest = data_digest(rows)
        done = self._store.existing(round, digest, self._config_digest)
        if done is not None:
            return _result(done)
        start = self._start(stored_version(parent))
        work = self._store.folder / f"training-{round:03d}-{_name(digest, self._config_digest, start)}"
        for other in set(self._store.folder.glob(f"training-{round:03d}-*")) - {work}:
            shutil.rmtree(other, ignore_errors=True)  # of other rows or weights: nothing will ever go on from them
        seed = _seed(self._job_seed, round)
        micro_batch = min(self._settings.micro_batch_size or self._settings.batch_size, self._settings.batch_size)
        try:
            trained = self._train(rows, start, work, seed, micro_batch, PolicyVersion(round, "").name)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            trained = None
        if trained is None:  # behind the handler: while it runs, the traceback holds the batch's memory
            trained = self._train_again(rows, start, work, seed, micro_batch, PolicyVersion(round, "").name)
        model, metrics, steps = trained
        lora = self._settings.method == "lora"
        base = foundation(start) if lora else None
        origin = Origin(start.version.round, digest, self._config_digest, base, metrics, len(rows), steps)
        stored = self._store.write(round, "lora" if lora else "full", lambda folder: self._save(model, folder), origin)
        shutil.rmtree(work, ignore_errors=True)
        return _result(stored)

    def _start(self, parent: StoredVersion) -> StoredVersion:
        """The version whose weights the update starts from."""
        return self._store.load(0) if self._settings.start == "base" else parent

    def _train_again(
        self, rows: Sequence[TrainingRow], start: StoredVersion, work: Path, seed: int, micro_batch: int, label: str
    ) -> tuple[Any, dict[str, float], int]:
        """The second and last attempt after memory ran out: half as many rows per forward pass, from the beginning."""
        release_gpu_memory()
        advice = "set update.micro_batch_size lower, or update.gradient_checkpointing: true"
        if micro_batch == 1:
            raise TrainingError(f"out of memory while training on a single row; {advice}")
        half = micro_batch // 2
        _log.warning("out of memory while training with %d rows per forward pass: once more with %d; %s",
                     micro_batch, half, advice)  # fmt: skip
        shutil.rmtree(work, ignore_errors=True)
        try:
            return self._train(rows, start, work, seed, half, label)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            raise TrainingError(f"out of memory, even with {half} rows per forward pass; {advice}") from error

    def _train(
        self, rows: Sequence[TrainingRow], start: StoredVersion, work: Path, seed: int, micro_batch: int, label: str
    ) -> tuple[Any, dict[str, float], int]:
        """Run the trainer; returns the model, its metrics and the number of optimizer steps."""
        from transformers.trainer_callback import PrinterCallback
        from transformers.utils import logging as library_logging
        from trl.trainer.sft_trainer import DataCollatorForLanguageModeling, SFTTrainer

        settings = self._settings
        samples = sample_count(len(rows), epochs=settings.epochs, steps=settings.steps, batch_size=settings.batch_size)
        order = training_order(
            [len(row.input_ids) for row in rows], samples=samples, batch_size=settings.batch_size, seed=seed
        )  # fmt: skip
        steps = math.ceil(samples / settings.batch_size)
        library_logging.set_verbosity_error()
        with progress(f"{label} trains", steps) as bar:
            trainer = SFTTrainer(
                model=self._model(start),
                args=self._arguments(work, seed, micro_batch, steps),
                # TRL's collator masks by length, never by id: a true end token keeps its loss.
                data_collator=DataCollatorForLanguageModeling(pad_token_id=self._pad_id),
                train_dataset=_dataset(rows, order),
                processing_class=self._tokenizer,
                peft_config=self._lora(start),
                callbacks=[_callback(bar)],
            )
            trainer.remove_callback(PrinterCallback)
            began = time.monotonic()
            trainer.train(resume_from_checkpoint=_newest_checkpoint(work))
            seconds = time.monotonic() - began
        tokens = sum(len(rows[index].input_ids) for index in order)
        # The trainer's own history, which its checkpoints carry: the same figures after an interruption as without.
        logged = [entry for entry in trainer.state.log_history if "loss" in entry]
        metrics = {
            "loss": math.fsum(entry["loss"] for entry in logged) / max(1, len(logged)),
            "final_loss": float(logged[-1]["loss"]) if logged else math.nan,
            "gradient_norm": math.fsum(entry.get("grad_norm", 0.0) for entry in logged) / max(1, len(logged)),
            "tokens_per_second": tokens / seconds,
            "training_seconds": seconds,
        }
        return trainer.model, metrics, steps

    def _model(self, start: StoredVersion) -> Any:
        """What the trainer trains: all weights, or an earlier adapter that goes on."""
        if self._settings.method == "lora" and start.kind == "lora":
            from peft import PeftModel

            base = load_checkpoint(foundation(start), "float32")
            return PeftModel.from_pretrained(base, str(start.path), is_trainable=True)
        return load_model(start, dtype="float32", device="cpu")

    def _lora(self, start: StoredVersion) -> Any:
        """A new adapter's configuration, or None where none is wanted or one goes on."""
        if self._settings.method != "lora" or start.kind == "lora":
            return None
        from peft import LoraConfig

        lora = self._settings.lora
        return LoraConfig(
            r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, use_rslora=lora.rslora,
            target_modules="all-linear", task_type="CAUSAL_LM",
        )  # fmt: skip

    def _arguments(self, work: Path, seed: int, micro_batch: int, steps: int) -> Any:
        from trl.trainer.sft_config import SFTConfig

        settings = self._settings
        cpu = self._device == "cpu"
        if cpu and settings.bf16:
            _log.warning("update.bf16: true needs a GPU; training in single precision")
        scheduler = {"constant": "constant_with_warmup"}.get(settings.schedule, settings.schedule)
        return SFTConfig(
            output_dir=str(work),
            per_device_train_batch_size=micro_batch,
            gradient_accumulation_steps=math.ceil(settings.batch_size / micro_batch),
            max_steps=steps,
            learning_rate=settings.learning_rate,
            lr_scheduler_type=scheduler,
            warmup_steps=math.ceil(settings.warmup * steps),
            weight_decay=settings.weight_decay,
            max_grad_norm=settings.max_grad_norm,
            optim="adamw_torch",
            bf16=settings.bf16 and not cpu,
            gradient_checkpointing=settings.gradient_checkpointing,
            use_cpu=cpu,
            seed=seed,
            train_sampling_strategy="sequential",
            max_length=None,
            dataset_kwargs={"skip_prepare_dataset": True},
            save_strategy="steps" if settings.checkpoint_steps else "no",
            save_steps=settings.checkpoint_steps or 500,
            save_total_limit=2,
            logging_steps=1,
            logging_nan_inf_filter=False,
            report_to="none",
            disable_tqdm=True,
            dataloader_pin_memory=not cpu,
        )

    def _save(self, model: Any, folder: Path) -> None:
        model.save_pretrained(folder)
        if self._settings.method == "lora":
            _settle_adapter_config(folder / "adapter_config.json")
        else:
            self._tokenizer.save_pretrained(folder)


def _dataset(rows: Sequence[TrainingRow], order: Sequence[int]) -> Any:
    """Rows in training order, -100 where there is no loss."""
    from datasets import Dataset

    ids = [list(row.input_ids) for row in rows]
    labels = [[-100] * row.supervised_from + list(row.input_ids[row.supervised_from :]) for row in rows]
    return Dataset.from_dict({"input_ids": ids, "labels": labels}).select(order)


def _callback(bar: Progress) -> Any:
    """Watches a run: stops at the first loss or gradient norm that is not finite, moves the bar."""
    from transformers import TrainerCallback

    class Watching(TrainerCallback):
        def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
            if not logs or "loss" not in logs:
                return
            loss, norm = float(logs["loss"]), float(logs.get("grad_norm", 0.0))
            if not (math.isfinite(loss) and math.isfinite(norm)):
                raise TrainingError(f"step {state.global_step}: the loss is {loss} and the gradient norm {norm}; lower "
                                    f"update.learning_rate (it is {args.learning_rate:g}) or raise update.warmup. "
                                    "No version was written")  # fmt: skip

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            bar.advance(1)

    return Watching()


def _newest_checkpoint(work: Path) -> str | None:
    """The newest complete training checkpoint: the trainer writes its state file last."""
    found = sorted(work.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]), reverse=True)
    for path in found:
        try:
            json.loads((path / "trainer_state.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        _log.warning("going on from training checkpoint %s", path)
        return str(path)
    return None


def _settle_adapter_config(path: Path) -> None:
    """Make equal adapters equal files: PEFT writes sets in arbitrary order, and the base's location."""
    config = json.loads(path.read_text(encoding="utf-8"))
    config["target_modules"] = sorted(config["target_modules"])
    config["base_model_name_or_path"] = None
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _result(stored: StoredVersion) -> UpdateResult:
    manifest = read_manifest(stored.path)
    return UpdateResult(stored.version, stored.path, manifest.rows, manifest.steps, dict(manifest.metrics))


def _seed(job_seed: int, round: int) -> int:
    """31 bits from job seed and round."""
    return int.from_bytes(hashlib.sha256(f"update {job_seed} {round}".encode()).digest()[:4], "big") >> 1


def _name(digest: str, config_digest: str, start: StoredVersion) -> str:
    """Names a run by all that decides it, so that only its own checkpoints are ever resumed."""
    text = f"{digest} {config_digest} {start.version.fingerprint}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]

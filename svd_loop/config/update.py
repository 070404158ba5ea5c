"""How a round's material becomes the next version: the `update` section, and the algorithms it can name.

`update.algorithm` says what is learned from; `update.method` which weights change (all, or an adapter). The other keys
are shared by the algorithms that train by gradients.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from svd_loop.config.base import Fraction, Positive, Section
from svd_loop.config.variants import OneOf
from svd_loop.support.plugins import Seam, Variant

if TYPE_CHECKING:
    from svd_loop.config.sections import Config


class AlgorithmSection(Section):
    """What every update algorithm's section has; a plug-in's section derives from it."""

    learns_from_refused: ClassVar[bool] = False
    """Whether `UpdateMaterial.refused` and `siblings` are filled."""
    sequences_per_row: ClassVar[int] = 1
    """Sequences that a row of a batch takes in a forward pass, for the memory estimate."""
    logits_memory: ClassVar[float] = 1.0
    """Memory of a sequence's logits in a forward pass, over that of `sft`; measured by `benchmarks.update_memory`."""

    unlearned_passes: ClassVar[float] = 0.0
    """Forward passes of sequences without a gradient for an example beside the supervised rows: reference and KL."""

    type: str
    """Name of the algorithm."""

    def examples(self, accepted: float, refused: float) -> float:
        """Most examples beside the supervised rows, from the numbers of a round's accepted and refused candidates."""
        return 0.0


class SftSection(AlgorithmSection):
    """Supervised fine-tuning on the sampled token ids of accepted rows (TRL's `SFTTrainer`)."""

    type: Literal["sft"] = "sft"


class PreferenceSection(AlgorithmSection):
    """What `dpo`, `kto` and `grpo` share."""

    learns_from_refused: ClassVar[bool] = True
    logits_memory: ClassVar[float] = 2.6

    beta: Annotated[float, Field(gt=0.0)] = 0.1
    """How strongly the policy is kept near the weights that the update starts from; smaller lets it move further."""
    sft_weight: Annotated[float, Field(ge=0.0)] = 1.0
    """Weight of the supervised loss on accepted rows, replayed rows and anchors, beside a preference loss of weight 1.
    0 leaves these rows out, which lets the likelihood of accepted answers fall and the judge's roles be forgotten."""
    truncated: bool = False
    """Use candidates that were cut off at `sampling.max_tokens` as refused ones too."""
    most_yes: Annotated[int, Field(ge=0)] | None = None
    """Leave out refused candidates with more yes votes than this, of all stages, before the vote that refused them: the
    nearer one came to being accepted, the likelier it is right. 0 uses those alone that the first vote refused; null
    sets no limit."""


class ContrastSection(PreferenceSection):
    """What `dpo` and `kto` share."""

    refused_per_prompt: Positive = 4
    """Most refused candidates of a prompt that are used, the first ones."""


class DpoSection(ContrastSection):
    """An accepted candidate against refused ones of its prompt (TRL's `DPOTrainer`), beside the supervised loss."""

    sequences_per_row: ClassVar[int] = 2
    logits_memory: ClassVar[float] = 2.1
    unlearned_passes: ClassVar[float] = 2.0

    type: Literal["dpo"] = "dpo"

    def examples(self, accepted: float, refused: float) -> float:
        """The pairs of a refused candidate."""
        return min(refused, self.refused_per_prompt * accepted)


class KtoSection(ContrastSection):
    """Accepted and refused candidates of all prompts, each alone (TRL's `KTOTrainer`), beside the supervised loss.

    Both labels get the same total weight.
    """

    unlearned_passes: ClassVar[float] = 3.0

    type: Literal["kto"] = "kto"

    def examples(self, accepted: float, refused: float) -> float:
        """Every candidate."""
        return accepted + refused


class GrpoSection(PreferenceSection):
    """Verdicts as rewards within the judged candidates of a prompt (TRL's `GRPOTrainer`), beside the supervised loss.

    Needs `update.start: previous`.
    """

    unlearned_passes: ClassVar[float] = 1.0

    type: Literal["grpo"] = "grpo"
    clip: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.2
    """A token's ratio of the policy's probability to the sampling policy's has no gradient once it has moved further
    than this from 1 in the rewarded direction."""

    def examples(self, accepted: float, refused: float) -> float:
        """Every candidate."""
        return accepted + refused


UPDATES = Seam(
    "update algorithm",
    "update.algorithm.type",
    "svd_loop.updates",
    Variant(SftSection, "policies.training.sft:make_updater"),
    Variant(DpoSection, "policies.training.dpo:make_updater"),
    Variant(KtoSection, "policies.training.kto:make_updater"),
    Variant(GrpoSection, "policies.training.grpo:make_updater"),
)
"""Algorithms; `build` takes an `UpdateContext` and gives an `Updater` (`policies.training.algorithm`)."""


class LoraSection(Section):
    """LoRA through PEFT, on all linear layers."""

    rank: Positive = 32
    """Rank of the adapter's matrices."""
    alpha: Positive = 64
    """Scale of the adapter: its output is multiplied by alpha / rank."""
    dropout: Fraction = 0.0
    """Dropout on the adapter's input while training; 0 is off."""
    rslora: bool = False
    """Scale by alpha / sqrt(rank) instead of alpha / rank."""


class ReplaySection(Section):
    """Rows of earlier rounds, and anchors, mixed into an update."""

    rounds: Annotated[int, Field(ge=0)] | None = None
    """How many earlier rounds' accepted rows are replayed: null all of them, 0 none."""
    ratio: Annotated[float, Field(ge=0.0)] | None = None
    """Replayed rows per new row at most (drawn at random); null means no limit."""
    anchor: Literal["none", "own", "posttrain"] = "none"
    """Rows that keep the judge roles trained: `own`, the policy's own verified judgements, or `posttrain`, nano's
    post-training mixture, for nano and checkpoints trained from it."""
    anchor_ratio: Annotated[float, Field(ge=0.0)] = 1.0
    """Anchor rows per accepted row (new and replayed together)."""


class JudgeRowsSection(Section):
    """Judgements of the round with an inferred verdict, as rows that train the judge's roles."""

    share: Annotated[float, Field(ge=0.0)] = 0.0
    """Most verdicts per accepted row, new and replayed together; 0 is off."""


class LaunchSection(Section):
    """Training in separate processes, one a GPU, through `accelerate launch` (docs/guides/updates.md)."""

    type: Literal["local", "ray", "slurm"] = "local"
    """Where the processes run: `local` on this machine, `ray` on nodes of a Ray cluster, `slurm` on those of the
    allocation that the job runs in (docs/guides/cluster.md)."""
    processes: Positive = 1
    """Processes on all machines together; 1 on this machine trains in the job's own process, unless
    `accelerate_config` is set."""
    nodes: Positive = 1
    """Machines among which the processes are divided equally."""
    address: str | None = None
    """`host:port` of the Ray cluster's head; null as in `engine.address`."""
    start_seconds: Annotated[float, Field(gt=0.0)] = 900.0
    """Time limit for a Ray cluster to have room for the processes."""
    strategy: Literal["ddp", "fsdp2", "zero2", "zero3"] = "ddp"
    """`ddp`: a whole copy in each process. `fsdp2`: weights, gradients and optimizer states in shards. `zero2` and
    `zero3`: the same by DeepSpeed, which must be installed. Each is a file in `configs/accelerate`."""
    accelerate_config: Path | None = None
    """A configuration file of accelerate to use instead of the strategy's; `processes` and `update.bf16` override its
    number of processes and its precision. null takes the strategy's file."""

    @property
    def apart(self) -> bool:
        """Whether an update trains outside the job's own process."""
        return self.processes > 1 or self.accelerate_config is not None or self.type != "local"

    @model_validator(mode="after")
    def _strategy_has_processes(self) -> LaunchSection:
        if self.strategy != "ddp" and not self.apart:
            raise ValueError(f"update.launch.strategy: {self.strategy} needs update.launch.processes above 1")
        return self

    @model_validator(mode="after")
    def _nodes_can_work_together(self) -> LaunchSection:
        if self.type == "local" and self.nodes > 1:
            raise ValueError(f"update.launch.nodes: {self.nodes} needs update.launch.type: ray or slurm")
        if self.processes % self.nodes:
            raise ValueError(
                f"update.launch.processes: {self.processes} cannot be divided equally among update.launch.nodes: "
                f"{self.nodes}; make it a multiple"
            )
        if self.type == "ray" and self.strategy in ("zero2", "zero3"):
            raise ValueError(
                f"update.launch.strategy: {self.strategy} collects its weights through a file system that all nodes "
                "share, which update.launch.type: ray does not need; use fsdp2"
            )
        return self


class UpdateSection(Section):
    """How the next version is trained on what a round accepted."""

    algorithm: Annotated[AlgorithmSection, OneOf(UPDATES, default="sft")] = SftSection()
    """What is learned from the round. Engines without weights (`scripted`) simulate an update and ignore it."""
    method: Literal["full", "lora"] = "full"
    """Train all weights, or a LoRA adapter."""
    start: Literal["base", "previous"] = "previous"
    """Weights an update starts from: round 0 every time, or the previous round's."""
    learning_rate: Annotated[float, Field(gt=0.0)] = 2e-5
    """Peak learning rate of AdamW."""
    epochs: Annotated[float, Field(gt=0.0)] = 2.0
    """Passes over the mixed rows; ignored when `steps` is set."""
    steps: Positive | None = None
    """Optimizer steps; null derives them from `epochs`."""
    batch_size: Positive = 64
    """Rows per optimizer step, of all processes together; a multiple of `launch.processes`."""
    micro_batch_size: Positive | None = None
    """Most rows in a forward pass of a process: the largest divisor of its share of the batch up to this. null means
    the whole share."""
    warmup: Fraction = 0.03
    """Share of the steps with rising learning rate."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """Learning rate after the warm-up: down along a cosine or a line, or constant."""
    minimum_rate: Fraction = 0.0
    """Learning rate at the end of a cosine, as a share of `learning_rate`."""
    betas: tuple[Annotated[float, Field(ge=0.0, lt=1.0)], Annotated[float, Field(ge=0.0, lt=1.0)]] = (0.9, 0.999)
    """Decay rates of AdamW's two running means."""
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.0
    """Weight decay of AdamW; 0 is off."""
    max_grad_norm: Annotated[float, Field(gt=0.0)] = 1.0
    """Gradients are clipped to this norm."""
    max_length: Annotated[int, Field(ge=8)] = 32768
    """Longest row in tokens; longer ones are left out and counted, never cut."""
    bf16: bool = False
    """Compute in bfloat16 (autocast); the trained weights stay float32. Ignored, with a warning, on a processor without
    instructions for it."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, more time."""
    packing: bool = False
    """Concatenate the rows of a forward pass instead of padding them. Batches and gradient stay the same; a check
    before the first step refuses an attention that lets rows attend to each other. Pays with flash attention."""
    attention: Literal["eager", "sdpa", "flex_attention", "flash_attention_2", "flash_attention_3"] | None = None
    """Attention implementation of training; null is transformers' default for the model."""
    checkpoint_steps: Annotated[int, Field(ge=0)] = 0
    """Steps between training checkpoints, from which an interrupted update resumes; 0 writes none."""
    choose_from: Annotated[int, Field(ge=0)] = 0
    """Checkpoints of an update, in equal steps up to its last one, among which the development problems choose
    (docs/guides/updates.md); 0 takes the last one."""
    keep_versions: Annotated[int, Field(ge=1)] | None = None
    """Number of newest versions kept on disk, beside the base, the best and those in the registry; null keeps all. A
    fork needs the version of its round."""
    lora: LoraSection = LoraSection()
    replay: ReplaySection = ReplaySection()
    judge_rows: JudgeRowsSection = JudgeRowsSection()
    launch: LaunchSection = LaunchSection()

    def refuse_conflicts(self, config: Config) -> None:
        """Raise `ValueError` if the job cannot make judge rows, or they could not change its judge."""
        share = self.judge_rows.share
        if share and not config.cascade.with_judge_only().stages:
            raise ValueError(
                f"update.judge_rows.share: {share} needs a stage that asks the judge; cascade.stages has "
                f"{', '.join(config.cascade.stage_names)}"
            )
        if share and config.cascade.frozen_judge:
            raise ValueError(
                f"update.judge_rows.share: {share} trains a judge that never judges, with cascade.frozen_judge: true; "
                "set one of them to 0 or false"
            )

    @model_validator(mode="after")
    def _only_a_cosine_has_a_minimum(self) -> UpdateSection:
        if self.minimum_rate and self.schedule != "cosine":
            raise ValueError(
                f"update.minimum_rate: {self.minimum_rate} needs update.schedule: cosine (it is {self.schedule})"
            )
        return self

    @model_validator(mode="after")
    def _preferences_train_in_one_process(self) -> UpdateSection:
        if not isinstance(self.algorithm, PreferenceSection):
            return self
        name = self.algorithm.type
        if self.launch.apart:
            raise ValueError(
                f"update.algorithm.type: {name} trains in the job's own process; set update.launch.processes: 1 (it is "
                f"{self.launch.processes}) and update.launch.accelerate_config: null"
            )
        if self.packing:
            raise ValueError(f"update.packing: true cannot be used with update.algorithm.type: {name}")
        if name == "grpo" and self.start != "previous":
            raise ValueError(
                "update.algorithm.type: grpo starts from the version that sampled the candidates; set update.start: "
                f"previous (it is {self.start})"
            )
        return self

    @model_validator(mode="after")
    def _nodes_keep_no_checkpoints(self) -> UpdateSection:
        if self.launch.type == "ray" and self.checkpoint_steps:
            raise ValueError(
                f"update.checkpoint_steps: {self.checkpoint_steps} cannot be used with update.launch.type: ray, whose "
                "nodes share no file system: an interrupted update starts again; set it to 0"
            )
        return self

    @model_validator(mode="after")
    def _processes_share_the_batch(self) -> UpdateSection:
        if self.batch_size % self.launch.processes:
            raise ValueError(
                f"update.batch_size: {self.batch_size} rows cannot be shared equally by "
                f"update.launch.processes: {self.launch.processes}; make it a multiple"
            )
        return self

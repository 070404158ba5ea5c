"""The card (README.md) of an exported data set: what it holds, how it was made, how to train on it."""

from __future__ import annotations

from collections.abc import Mapping
from string import Template
from typing import Any

from svd_loop.assembly.data import source_label
from svd_loop.config import Config
from svd_loop.contracts import JobState

_CARD = Template("""---
pretty_name: $job as $kind
tags: [svd-loop, self-verified-distillation, trl, synthetic]
configs:
- config_name: default
  data_files:
  - split: train
    path: $file
---

# $job as $kind

$rows rows of $prompts prompts, $shape. Written by `svd-loop export $job --as $kind`.

## How it was made

The model `$model` wrote up to $n solutions to each unlabeled prompt and judged them itself ($stages; $votes votes a
stage, rule $rule). No answer, test or other label was read. The prompts came from: $source.

| round | version in force after it | held-out pass@1, % | prompts with an accepted solution |
|---|---|---|---|
$rounds

A label is the judge's opinion and not a fact. An *accepted* solution became a training row of the job; a *refused* one
was refused by a vote of "no" in such a round. Left out: $left_out. Canaries and held-out problems are no
part of it, and every text was compared with the held-out problems.

## Columns

| column | meaning |
|---|---|
$columns
| `job`, `round`, `prompt_id`, `domain` | its place in the job: `svd-loop explain $job PROMPT_ID` shows all |
| `version`, `fingerprint` | the version that wrote the solution and judged it |
| `$prefixes` | number of the solution among those of its prompt |
| `$stages_column` | the stage that refused it; empty if it was accepted |
| `$votes_columns` | its votes |

A prompt is the conversation that the model saw, the solver's instruction included. A thought, if the model writes one,
stands between `<think>` and `</think>`.

## Use

```python
from datasets import load_dataset
from trl import $trainer

data = load_dataset("$folder", split="train")
$trainer(model="$model", train_dataset=data).train()
```
$note""")

_SHAPES = {
    "sft": ("the accepted solutions", "SFTTrainer", ("messages",), {"messages": "the conversation with the solution"}),
    "preferences": (
        "each an accepted solution and a refused one of the same prompt in the same round",
        "DPOTrainer",
        ("chosen_", "rejected_"),
        {"prompt": "the conversation", "chosen, rejected": "the accepted and the refused solution"},
    ),
    "kto": (
        "accepted and refused solutions",
        "KTOTrainer",
        ("",),
        {"prompt": "the conversation", "completion": "the solution", "label": "true if it was accepted"},
    ),
}
_NOTES = {
    "sft": """
`SFTTrainer` learns all turns of `messages`; `SFTConfig(assistant_only_loss=True)` learns the solution alone, with a
chat template that marks it (`{% generation %}`).
"""
}


def data_card(written: Mapping[str, Any], state: JobState, config: Config, file: str) -> str:
    """Return the card of an export.

    Args:
        written: the export as plain data (`ExportedSet.as_dict`).
        state: the job's rounds.
        config: the job's configuration.
        file: name of the data file.
    """
    kind = written["as"]
    shape, trainer, prefixes, columns = _SHAPES[kind]
    prefixes = ("",) if kind == "sft" else prefixes
    left_out = ", ".join(
        f"{count} {reason.replace('_', ' ')}" for reason, count in written["left_out"].items() if count
    )
    return _CARD.substitute(
        job=state.job,
        kind=kind,
        file=file,
        rows=f"{written['rows']:,}",
        prompts=f"{written['prompts']:,}",
        shape=shape,
        model=config.model.path,
        n=config.sampling.n,
        stages=", ".join(config.cascade.stage_names),
        votes=config.cascade.votes,
        rule=config.cascade.rule,
        source=source_label(config.data.train),
        rounds="\n".join(
            f"| {record.round} | {record.version.name} | {100 * record.scores.pass_at_1.value:.1f} | "
            f"{record.accepted_prompts} of {record.prompts} |"
            for record in state.history
        ),
        left_out=left_out or "no candidate",
        columns="\n".join(
            f"| {', '.join(f'`{name}`' for name in names.split(', '))} | {what} |" for names, what in columns.items()
        ),
        prefixes="`, `".join(f"{prefix}candidate" for prefix in prefixes),
        stages_column="`, `".join(f"{prefix}stage" for prefix in prefixes),
        votes_columns="`, `".join(
            f"{prefix}votes_{value}" for prefix in prefixes for value in ("yes", "no", "invalid")
        ),
        trainer=trainer,
        folder=written["path"].rpartition("/")[2],
        note=_NOTES.get(kind, ""),
    )

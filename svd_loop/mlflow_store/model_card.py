"""The card of a version: its scores, the data it was trained on, how it was made, and how to load it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from string import Template
from typing import Any

from svd_loop.contracts import Estimate, RoundRecord, Scores
from svd_loop.loop.health_rule import alarms_of

_CARD = Template("""$front# $job, $version

A version of `$model` that was trained on its own verified work by svd-loop: in each round the model wrote solutions to
unlabeled prompts, judged them itself, and learned from those that every stage accepted. Fingerprint `$fingerprint`.

## Scores

Held-out problems with answers, in percent with 95% intervals; never trained on. The development split chose the round.

| split | group | base | this version |
|---|---|---|---|
$scores

## Data

Prompts without answers: $source. $replay

| round | prompts | with an accepted solution | rows trained on | judge alarms |
|---|---|---|---|---|
$rounds

## How it was made

| | |
|---|---|
$settings

`svd-loop explain $job PROMPT_ID` shows why a solution was trained on.

## Limits

Accepted means that the model found no fault in its own solution, not that it is right. Scores hold for problems like
the held-out ones. The weights inherit licence, knowledge and bias of `$model`.

## Use

```python
$snippet
```
""")
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_SETTINGS = (
    ("rounds", "job.rounds"),
    ("seed", "job.seed"),
    ("solutions a prompt, at most", "sampling.n"),
    ("temperature of the solver", "sampling.temperature"),
    ("votes a stage", "cascade.votes"),
    ("rule", "cascade.rule"),
    ("way of asking", "cascade.asking"),
    ("weights trained", "update.method"),
    ("learning rate", "update.learning_rate"),
    ("epochs a round", "update.epochs"),
)

CHECKPOINT = """from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("{path}")
tokenizer = AutoTokenizer.from_pretrained("{path}")"""
ADAPTER = """from peft import AutoPeftModelForCausalLM

model = AutoPeftModelForCausalLM.from_pretrained("{path}")"""


def model_card(
    job: str,
    record: RoundRecord,
    history: Sequence[RoundRecord],
    config: Mapping[str, Any],
    snippet: str,
    *,
    test: Mapping[str, Scores] | None = None,
    library: str = "transformers",
) -> str:
    """Return a version's card as Markdown.

    Args:
        job: job name.
        record: a round after which the version was in force.
        history: the job's rounds; those up to the version's are shown.
        config: the job's resolved configuration as plain data.
        snippet: Python that loads the version.
        test: scores on the test split by version name.
        library: `transformers` or `peft`.
    """
    version, base = record.version, history[0]
    made = [one for one in history if 0 < one.round <= version.round]
    splits = {"development": (base.scores, record.scores)}
    if test and version.name in test and base.version.name in test:
        splits["test"] = (test[base.version.name], test[version.name])
    settings = [(name, value) for name, key in _SETTINGS if (value := _value(config, key)) is not None]
    stages = ", ".join(stage if isinstance(stage, str) else stage["type"] for stage in config["cascade"]["stages"])
    return _CARD.substitute(
        front=_front_matter(str(config["model"]["path"]), library),
        job=job,
        version=version.name,
        model=config["model"]["path"],
        fingerprint=version.fingerprint,
        scores="\n".join(_score_lines(splits)),
        source=_source(config["data"]["train"]),
        replay=_replay(config["update"]["replay"]),
        rounds="\n".join(
            f"| {one.round} | {one.prompts} | {one.accepted_prompts} | {one.rows} | {len(alarms_of(one))} |"
            for one in made
        ),
        settings="\n".join(f"| {name} | {value} |" for name, value in (("stages", stages), *settings)),
        snippet=snippet,
    )


def as_description(card: str) -> str:
    """Return a card as MLflow's store has room for it: without its front matter, and at most 5,000 characters."""
    return card.partition("\n---\n\n")[2][:5000]


def _front_matter(model: str, library: str) -> str:
    base = f"base_model: {model}\n" if _HUB_NAME.fullmatch(model) else ""
    tags = "tags: [svd-loop, self-verified-distillation]"
    return f"---\n{base}library_name: {library}\npipeline_tag: text-generation\n{tags}\n---\n\n"


def _score_lines(splits: Mapping[str, tuple[Scores, Scores]]) -> Iterator[str]:
    for split, (before, after) in splits.items():
        for group, metrics in after.estimates.items():
            first, last = before.estimates.get(group, {}).get("pass@1"), metrics.get("pass@1")
            if first is not None and last is not None:
                yield f"| {split} | {group} | {_percent(first)} | {_percent(last)} |"


def _percent(found: Estimate) -> str:
    return f"{100 * found.value:.1f} ({100 * found.low:.1f} to {100 * found.high:.1f})"


def _value(config: Mapping[str, Any], dotted: str) -> Any:
    found: Any = config
    for part in dotted.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def _source(train: Mapping[str, Any]) -> str:
    if train["type"] == "files":
        return "files " + ", ".join(f"`{path}`" for path in train["paths"])
    return f"the {train['type']} generator, seed {train.get('seed', 0)}"


def _replay(replay: Mapping[str, Any]) -> str:
    rounds, ratio = replay["rounds"], replay["ratio"]
    earlier = "all earlier rounds" if rounds is None else f"the last {rounds} rounds"
    limit = "" if ratio is None else f", at most {ratio} a new row"
    replayed = "No rows of earlier rounds were added" if rounds == 0 else f"Rows of {earlier} were added{limit}"
    if replay["anchor"] == "none":
        return f"{replayed}."
    return f"{replayed}, and {replay['anchor_ratio']} anchor rows (`{replay['anchor']}`) for each accepted one."

"""`svd-loop init`: a starter folder that runs as it is on the embedded model."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from string import Template
from typing import Any

from envs.problems.nano import generate
from svd_loop.errors import ConfigError
from svd_loop.support.part_folder import part_folder

_PROMPTS, _HELD_OUT, _SEED = 80, 60, 5

_CONFIG = Template("""\
# A starter: the embedded model improves on prompts from files, in about a minute. Paths are seen from the folder in
# which svd-loop is started: this one.
job: {name: "$name", rounds: 1}
model: {path: nano, templates: nano, max_context: 512} # your own: a checkpoint's folder, templates: chat
data:
  domain: math
  train: {type: files, paths: [data/prompts.jsonl]} # questions without answers
  development: {type: files, paths: [data/development.jsonl]} # with answers: tells when to stop
  test: {type: files, paths: [data/test.jsonl]} # with answers: read for the base and the best version alone
sampling: {n: 8, block: 1, max_tokens: 96}
cascade: {votes: 3, order: measured, fill_rows: 128, judge: {max_tokens: 64}}
health: {canaries: 4, verify: 0}
update: {learning_rate: 2.0e-4, epochs: 2, max_length: 512}
evaluation: {samples: 2, audit: 0}
""")

_DOMAIN = '''\
"""The domain `rounded`: a number is right within one percent of gold."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import ClassVar, Literal

from envs.domains import DomainSpec, Pair
from svd_loop.config.domains import DomainSection
from svd_loop.contracts import Outcome
from svd_loop.support.plugins import Variant


class RoundedSection(DomainSection):
    """Numbers that need not be exact."""

    type: Literal["rounded"] = "rounded"
    tolerance: float = 0.01
    """Largest relative error of a right answer; evaluation.domains: [{type: rounded, tolerance: 0.05}] sets it."""

    instruction: ClassVar[str | None] = "$question\\n\\nEnd with the number alone on the last line."


def extract(solution: str) -> str | None:
    """The last number of a solution; None if it has none."""
    found = re.findall(r"-?\\d+(?:\\.\\d+)?", solution)
    return found[-1] if found else None


def make_domain(section: RoundedSection) -> DomainSpec:
    """Build the scorer; called by evaluation alone, the only reader of gold."""

    def score_all(pairs: Sequence[Pair], *, seconds: float) -> list[Outcome]:
        return [Outcome.of(_close(extract(solution), float(problem.answer))) for solution, problem in pairs]

    def _close(answer: str | None, gold: float) -> bool:
        return answer is not None and abs(float(answer) - gold) <= section.tolerance * abs(gold)

    return DomainSpec(extract, score_all)


ROW = Variant(RoundedSection, build="rounded_domain:make_domain")
'''

_PROJECT = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "rounded-domain"
version = "0.1.0"

[project.entry-points."svd_loop.domains"]
rounded = "rounded_domain:ROW"

[tool.hatch.build.targets.wheel]
only-include = ["rounded_domain.py"]
"""

_README = Template("""\
# $name

In this folder:

```
$commands
```

`data/` has unlabeled prompts, and held-out problems with answers. `domain/` is a domain of your own with a scorer:
install it, and name it by `domain: rounded` in a row of the data or in the configuration.
""")


def write_starter(target: Path) -> list[str]:
    """Write a starter folder, complete or not at all; return the commands to go on with.

    Raises:
        ConfigError: `target` exists and is not empty, or cannot be written.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ConfigError(f"{target}: exists already; name a new folder, nothing is overwritten")
    name = _job_name(target.resolve().name)
    commands = [
        f"cd {shlex.quote(str(target))}",
        "svd-loop check config.yaml        # before any work: data, lengths, cost",
        "svd-loop run config.yaml          # about a minute on two CPU cores",
        f"svd-loop samples {name}           # what was sampled, and how it was judged",
        "pip install -e domain             # a domain of your own, then data.domain: rounded",
    ]
    try:
        with part_folder(target) as part:
            for path, text in _files(name, commands[1:]).items():
                (part / path).parent.mkdir(parents=True, exist_ok=True)
                (part / path).write_text(text, encoding="utf-8")
            part.rename(target)  # also over an empty folder
    except OSError as error:
        raise ConfigError(f"{target}: cannot be written: {error.strerror or error}") from error
    return commands


def _job_name(folder: str) -> str:
    """A name that a job can have, made of a folder's."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", folder).lstrip("._-")[:80] or "starter"


def _files(name: str, commands: Iterable[str]) -> dict[str, str]:
    prompts = ({"prompt": one.question} for one in generate("math", "train", _PROMPTS, seed=_SEED))
    held_out = {
        split: (
            {"prompt": one.question, "answer": one.answer} for one in generate("math", split, _HELD_OUT, seed=_SEED)
        )
        for split in ("development", "test")
    }
    return {
        "config.yaml": _CONFIG.substitute(name=name),
        "data/prompts.jsonl": _lines(prompts),
        **{f"data/{split}.jsonl": _lines(rows) for split, rows in held_out.items()},
        "domain/pyproject.toml": _PROJECT,
        "domain/rounded_domain.py": _DOMAIN,
        "README.md": _README.substitute(name=name, commands="\n".join(commands)),
    }


def _lines(rows: Iterable[Mapping[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)

"""What can be known before any work: whether the data, the model, the machine and the tracking store will do.

Each check is one function that returns a sentence or raises the error the job itself would raise, so that
`svd-loop check` and `svd-loop run` can never disagree. Nothing is sampled and no job folder is created.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from envs.cascade import Cascade
from svd_loop.build.backends import make_backend
from svd_loop.build.data import held_out
from svd_loop.build.job import cascade_settings, open_prompts, template_set
from svd_loop.build.lengths import room_for_question
from svd_loop.config import Config
from svd_loop.contracts import Domain, Problem, Role, Stage
from svd_loop.errors import SvdError

_CALLS = {Stage.CYCLE_CONSISTENCY: 2}
"""Calls of one vote; one where a stage is not named."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at, whether it will do, and what was found or has to change."""

    name: str
    ok: bool
    detail: str

    def as_dict(self) -> dict[str, object]:
        """Plain data for JSON."""
        return asdict(self)


def checks(config: Config) -> list[Check]:
    """Every check, in the order a job would trip over them."""
    with tempfile.TemporaryDirectory(prefix="svd-loop-check-") as scratch:
        held: dict[str, list[Problem]] = {}

        def problems() -> str:
            held.update(held_out(config))
            return ", ".join(f"{len(items)} {split}" for split, items in held.items())

        named: list[tuple[str, Callable[[], str]]] = [
            ("held-out problems", problems),
            ("prompt templates", lambda: _templates(config)),
            ("model and lengths", lambda: _model(config, Path(scratch))),
            ("training prompts", lambda: _prompts(config, held, Path(scratch))),
            ("coding sandbox", lambda: _sandbox(held)),
            ("tracking store", lambda: _tracking(config)),
            ("disk", lambda: _disk(config)),
            ("work per round", lambda: _work(config)),
        ]
        return [_checked(name, look) for name, look in named]


def _checked(name: str, look: Callable[[], str]) -> Check:
    try:
        return Check(name, True, look())
    except SvdError as error:
        return Check(name, False, str(error))


def _templates(config: Config) -> str:
    templates = Cascade(template_set(config), cascade_settings(config)).templates  # refuses more wordings than it has
    return ", ".join(templates.version(role, Domain.MATH) for role in Role if templates.wordings(role))


def _model(config: Config, scratch: Path) -> str:
    backend = make_backend(config, scratch / "job")
    room = room_for_question(config, backend, template_set(config))
    return f"{config.model.path}: " + ("no limit" if room is None else f"questions may have {room:,} tokens")


def _prompts(config: Config, held: dict[str, list[Problem]], scratch: Path) -> str:
    backend = make_backend(config, scratch / "job")
    pool = open_prompts(config, held, scratch, template_set(config), backend)
    try:
        return "; ".join(pool.report.lines())
    finally:
        pool.close()


def _sandbox(held: dict[str, list[Problem]]) -> str:
    coding = [problem for items in held.values() for problem in items if problem.domain is Domain.CODING]
    if not coding:
        return "no coding problems are held out; not needed"
    from svd_loop.evaluation import score_pairs

    score_pairs([("```python\ndef f(x):\n    return x\n```", coding[0])], test_seconds=5.0)
    return "programs can be contained here"


def _tracking(config: Config) -> str:
    if not config.tracking.enabled:
        return "switched off (tracking.enabled: false)"
    from svd_loop.tracking.store import open_store

    return open_store(config.tracking.uri, config.job.root, config.tracking.experiment).uri


def _disk(config: Config) -> str:
    folder = config.job.root.resolve()
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    return f"{shutil.disk_usage(existing).free / 2**30:.1f} GiB free under {existing}"


def _work(config: Config) -> str:
    """Upper bounds: early exit and first-valid usually ask far less."""
    prompts = config.data.prompts_per_round
    if prompts is None:
        return "every prompt, every round (data.prompts_per_round is null)"
    settings = cascade_settings(config)
    calls = settings.votes * sum(_CALLS.get(stage, 1) for stage in settings.stages)
    candidates = prompts * config.sampling.n
    return f"at most {candidates:,} candidates and {candidates * calls:,} judge calls"

"""Self-Verified Distillation: a language model that gets better from its own verified work.

The public face. Names are imported on first use, so that `import svd_loop` stays cheap.
"""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from envs.self_verification import SelfVerification
    from svd_loop.config import Config, load_config
    from svd_loop.contracts import JobResult, Scores
    from svd_loop.errors import SvdError
    from svd_loop.jobs import evaluate_model, judge_answers, judge_file, run_job

__version__ = "0.1.0"

__all__ = [
    "Config",
    "JobResult",
    "Scores",
    "SelfVerification",
    "SvdError",
    "__version__",
    "evaluate_model",
    "judge_answers",
    "judge_file",
    "load_config",
    "run_job",
]

_HOMES = {
    "Config": "svd_loop.config",
    "JobResult": "svd_loop.contracts",
    "Scores": "svd_loop.contracts",
    "SelfVerification": "envs.self_verification",
    "SvdError": "svd_loop.errors",
    "evaluate_model": "svd_loop.jobs",
    "judge_answers": "svd_loop.jobs",
    "judge_file": "svd_loop.jobs",
    "load_config": "svd_loop.config",
    "run_job": "svd_loop.jobs",
}


def _refuse_foreign(folder: Path) -> None:
    """Raise an error if another package is imported under the name `envs` or `policies` of this project's packages."""
    for name, own in (("envs", "round_env.py"), ("policies", "policy.py")):
        spec = importlib.util.find_spec(name)
        found = None if spec is None or spec.origin is None else Path(spec.origin).parent
        if found is None or found.resolve() != folder / name or not (found / own).is_file():
            raise ImportError(
                f"svd_loop needs its own package {name!r} at {folder / name}, but Python finds "
                f"{found or 'none'}: another {name!r} is installed or stands earlier in sys.path. Install svd-loop in "
                f"an environment of its own, or start it in a folder without {name}/ (docs/reference/commands.md)"
            )


_refuse_foreign(Path(__file__).resolve().parents[1])


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

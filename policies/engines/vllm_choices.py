"""Limit an answer of vLLM to a few texts, by a logits processor in the child process.

vLLM's own structured outputs need its tokenizer, which the child does not load, and compile a grammar. Two markers are
two short sequences of ids: after the ids written so far, only those that can continue a choice are allowed. The
processor is loaded in the child by its name; this module imports vLLM there alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

CHOICES = "svd_loop_choices"
"""Key of a request's `extra_args`: the ids of its possible answers, each with a stop token at its end."""


def allowed_ids(choices: Sequence[Sequence[int]], written: Sequence[int]) -> list[int]:
    """Return the ids that can continue a choice after those written; empty after a complete choice."""
    done = len(written)
    return sorted({ids[done] for ids in choices if len(ids) > done and list(ids[:done]) == list(written)})


def __getattr__(name: str) -> Any:
    """The processor's class, which is made when vLLM asks for it."""
    if name == "ChoicesProcessor":
        return _processor()
    raise AttributeError(name)


def _processor() -> type:
    import torch
    from vllm.v1.sample.logits_processor import AdapterLogitsProcessor

    if TYPE_CHECKING:
        from vllm import SamplingParams

    class ChoicesProcessor(AdapterLogitsProcessor):  # type: ignore[misc,unused-ignore]
        """Masks the logits of rows that have choices."""

        def is_argmax_invariant(self) -> bool:
            return False

        def new_req_logits_processor(self, params: SamplingParams) -> Any:
            choices = (params.extra_args or {}).get(CHOICES)
            if not choices:
                return None

            def limit(written: list[int], logits: torch.Tensor) -> torch.Tensor:
                allowed = allowed_ids(choices, written)
                if not allowed:  # a whole choice: the row has ended, or ends with this step
                    return logits
                limited = torch.full_like(logits, -torch.inf)
                limited[allowed] = logits[allowed]
                return limited

            return limit

    return ChoicesProcessor

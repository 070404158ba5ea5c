"""How the transformers engine divides the memory that is free beside a model's weights.

    free ─┬─ known prompts   engine.prefix_cache_gib, or a quarter
          ├─ rows            on a CPU two thirds of the rest: keys and values of the rows decoded together
          └─ left            activations and logits of a forward pass, and everything else in the process

On a CPU a batch that does not fit is ended by the system, with the job; so rows are limited beforehand, by the longest
they can become. On a GPU running out of memory is an error that the engine survives with half the rows, and a limit for
rows that rarely become so long would leave memory unused.
"""

from __future__ import annotations

from policies.versions.precision import NARROW
from svd_loop.config.engines import TransformersEngineSection

GIB = 2**30
_PREFIX_SHARE = 0.25
"""Share of the free memory that known prompts may take by default."""
_ROW_SHARE = 2 / 3
"""Share of the rest that keys and values of rows may take."""


def prefix_memory(settings: TransformersEngineSection, free: int, *, hidden: int, sliding: bool) -> int:
    """Bytes for known prompts.

    Args:
        settings: of the engine.
        free: bytes beside the weights.
        hidden: the model's width. Narrow models keep none: looking prompts up would take longer than reading.
        sliding: the model has sliding windows. Their masks count columns, and a known prefix leaves gaps between
            columns, so they keep none.
    """
    if hidden < NARROW or sliding:
        return 0
    if settings.prefix_cache_gib is not None:
        return int(settings.prefix_cache_gib * GIB)
    return int(free * _PREFIX_SHARE)


def row_memory(free: int, prefixes: int) -> int:
    """Bytes for keys and values of rows on a CPU."""
    return int(max(0, free - prefixes) * _ROW_SHARE)


def rows_that_fit(memory: int, token: int, tokens: int) -> int:
    """Rows that fit; can be 0.

    Args:
        memory: bytes for all of them.
        token: bytes of the keys and values of a token, in all layers.
        tokens: prompt and answer of the longest; a quarter is reserved ahead of what is filled.
    """
    return memory // max(1, token * (tokens + tokens // 4))

"""Libraries that stay to the end of a test process, which garbage collection leaves out.

Each full collection would look at millions of their objects, and some libraries ask for one at every training.
"""

from __future__ import annotations

import gc
from importlib import import_module


def import_for_good(*modules: str) -> None:
    """Import modules; what is imported by then is exempt from garbage collection."""
    gc.disable()
    try:
        for name in modules:
            import_module(name)
    finally:
        gc.freeze()
        gc.enable()

"""Write `report.html`: one self-contained page per job, which can be mailed and opened years later.

It is the first page of the viewer (`svd_loop.viewer`) with every round below it: the same templates and styles, and no
script.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from svd_loop.contracts import JobResult, JobState
from svd_loop.report.charts import stacked, whisker
from svd_loop.report.overview import overview
from svd_loop.report.templating import STATIC, environment, inlined
from svd_loop.support.atomic import write_atomically


def write_page(path: Path, state: JobState | JobResult, config: Mapping[str, Any]) -> Path:
    """Write the page of a job, finished (`JobResult`) or not, atomically over an older one; return `path`."""
    write_atomically(path, page_html(state, config))
    return path


def page_html(state: JobState | JobResult, config: Mapping[str, Any]) -> str:
    """Return the page as text.

    Args:
        state: the job; a `JobResult` adds the stop reason, the best round and test scores.
        config: the resolved configuration as plain data.
    """
    style, source = inlined((STATIC / "style.css").read_text(encoding="utf-8"))
    template = environment().get_template("report.html")
    return template.render(
        page=overview(state, config), style=style, style_source=source, stacked=stacked, whisker=whisker
    )

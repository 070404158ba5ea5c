"""Reports of a job: tables for the terminal, JSON for machines, figures and one HTML page.

Everything here is computed from round records, so the same history gives the same output, and all of it can be made
again from the ledger (`svd-loop report JOB`). matplotlib and rich are imported only when something is drawn.
"""

from svd_loop.report.as_json import history_json, outcomes_json, result_json, scores_json
from svd_loop.report.judged import judged_json, render_judged
from svd_loop.report.page import page_html, write_page
from svd_loop.report.tables import render_result, render_resumed, render_round, render_rounds, render_scores
from svd_loop.report.verifiers import render_verifiers, verifiers_json

__all__ = [
    "history_json",
    "judged_json",
    "outcomes_json",
    "page_html",
    "render_judged",
    "render_result",
    "render_resumed",
    "render_round",
    "render_rounds",
    "render_scores",
    "render_verifiers",
    "result_json",
    "scores_json",
    "verifiers_json",
    "write_page",
]

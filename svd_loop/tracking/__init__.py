"""The index people look at: jobs and rounds as MLflow runs.

MLflow is never the truth. Everything logged is derived from round records, which the ledger keeps, so a store that is
away for a while, or lost, is filled again from them; and a job goes on whatever happens to it.

Left out on purpose: traces of single votes (far too many, and the ledger has them) and autologging.
"""

from svd_loop.tracking.datasets import DataSummary, summarise
from svd_loop.tracking.mlflow_tracker import MlflowTracker
from svd_loop.tracking.null import NullTracker

__all__ = ["DataSummary", "MlflowTracker", "NullTracker", "summarise"]

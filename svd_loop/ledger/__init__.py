"""The ledger of a job: replies by content key, committed rounds, and the state from which a killed job resumes.

Tables and queries are described in docs/reference/ledger.md.
"""

from svd_loop.ledger.digest import content_digest
from svd_loop.ledger.durable import DurablePolicy
from svd_loop.ledger.export import export_parquet
from svd_loop.ledger.fork import fork
from svd_loop.ledger.identity import settled_digest
from svd_loop.ledger.interrupt import Interrupt
from svd_loop.ledger.ledger import Ledger
from svd_loop.ledger.reader import LedgerReader
from svd_loop.ledger.salvage import salvage
from svd_loop.ledger.shared import SharedAnswers

__all__ = [
    "DurablePolicy",
    "Interrupt",
    "Ledger",
    "LedgerReader",
    "SharedAnswers",
    "content_digest",
    "export_parquet",
    "fork",
    "salvage",
    "settled_digest",
]

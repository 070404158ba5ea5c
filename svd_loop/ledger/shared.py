"""Store of answers that several jobs share, by the policy's content key.

Jobs that differ only in selection or training make the same calls to the same weights, at least in their first round.
With a shared file the second job copies the answers of the first one. A key covers everything that determines an
answer, so sharing changes no figure. Only an engine whose floats depend on the rows of a batch may rarely break a tie
differently than it would have without sharing.

Several processes may write; a known key keeps its first answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from svd_loop.contracts import Reply
from svd_loop.ledger import answers
from svd_loop.ledger.contents import ContentStore
from svd_loop.ledger.database import ledger_errors, open_for_writing, transaction


class SharedAnswers:
    """An open file of shared answers; implements `svd_loop.ledger.durable.AnswerStore`.

    Attributes:
        taken: number of answers returned since it was opened.
    """

    def __init__(self, path: Path) -> None:
        """Open or create the file and its folder.

        Raises:
            LedgerError: the file cannot be used: damaged, newer than this program, or not writable.
        """
        self.path = path
        self.taken = 0
        with ledger_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        self._connection = open_for_writing(path)
        self._store = ContentStore(self._connection, path)

    def lookup(self, keys: Iterable[str]) -> dict[str, Reply]:
        """Return the stored replies among `keys`."""
        with ledger_errors(self.path):
            found = answers.select(self._connection, self._store, keys)
        self.taken += len(found)
        return found

    def record(self, items: Sequence[answers.Answered]) -> None:
        """Store all of `items`, or none; a known key keeps its first answer."""
        with ledger_errors(self.path):
            try:
                with transaction(self._connection):
                    answers.insert(self._connection, self._store, items)
            except BaseException:
                self._store.drop_caches()
                raise

    def close(self) -> None:
        """Close the file; repeated calls do nothing."""
        self._connection.close()

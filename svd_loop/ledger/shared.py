"""Answers that several jobs share, by the policy's content key.

Jobs that differ only in what they select or how they train ask the same weights the same questions, at least in their
first round. With a shared file the second job takes over what the first one paid for. A key says everything that
decides an answer, so sharing changes no figure; only an engine whose floats depend on what is computed together may
answer an odd tie otherwise than it would have alone.

Several processes may write: an answer that is there already stays as it was.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from svd_loop.contracts import Reply
from svd_loop.ledger import answers
from svd_loop.ledger.contents import ContentStore
from svd_loop.ledger.database import advice, open_for_writing, transaction


class SharedAnswers:
    """An open file of shared answers, to be closed; implements `svd_loop.ledger.durable.AnswerStore`.

    Attributes:
        taken: answers it has given since it was opened.
    """

    def __init__(self, path: Path) -> None:
        """Open or create the file; its folder is made.

        Raises:
            LedgerError: it cannot be used: damaged, newer than this program, or not writable.
        """
        self.path = path
        self.taken = 0
        with advice(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        self._connection = open_for_writing(path)
        self._store = ContentStore(self._connection, path)

    def lookup(self, keys: Iterable[str]) -> dict[str, Reply]:
        """The stored replies among `keys`."""
        with advice(self.path):
            found = answers.select(self._connection, self._store, keys)
        self.taken += len(found)
        return found

    def record(self, items: Sequence[answers.Answered]) -> None:
        """Store all of `items`, or none; a known key keeps its first answer."""
        with advice(self.path):
            try:
                with transaction(self._connection):
                    answers.insert(self._connection, self._store, items)
            except BaseException:
                self._store.forget()
                raise

    def close(self) -> None:
        """Close the file; repeated calls do nothing."""
        self._connection.close()

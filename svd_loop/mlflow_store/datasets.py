"""Summaries of a job's data for MLflow: source, number of rows and a digest. The data and the gold are never logged."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from svd_loop.contracts import Problem, Prompt

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput

_CONTEXT_TAG = "mlflow.data.context"
_NAMES = {"train": "training prompts", "development": "development problems", "test": "test problems"}


@dataclass(frozen=True, slots=True)
class DataSummary:
    """Summary of one split.

    Attributes:
        context: train, development or test.
        source: where the questions come from, in words.
        rows: number of questions.
        rows_by_domain: number of questions by domain.
        digest: digest of the set of questions.
        generated: whether a generator makes them; otherwise `source` names files.
    """

    context: str
    source: str
    rows: int
    rows_by_domain: Mapping[str, int]
    digest: str
    generated: bool = False

    @property
    def name(self) -> str:
        """Name of the data set in MLflow."""
        return _NAMES.get(self.context, self.context)


def summarise(context: str, source: str, items: Iterable[Prompt | Problem], *, generated: bool = False) -> DataSummary:
    """Summarise a split.

    Args:
        context: train, development or test.
        source: where the questions come from, in words: file patterns or a generator and its seed.
        items: prompts or problems; only ids, texts and domains are read.
        generated: whether a generator makes them.
    """
    questions = sorted((item.id, item.text, item.domain) for item in items)
    digest = hashlib.sha256()
    for identifier, text, _ in questions:
        digest.update(f"{identifier}\x1f{text}\x1e".encode())
    by_domain = Counter(domain for _, _, domain in questions)
    counted = dict(sorted(by_domain.items()))
    return DataSummary(context, source, len(questions), counted, digest.hexdigest()[:32], generated)


def dataset_input(summary: DataSummary) -> DatasetInput:
    """Return a summary as an input of a run: a data set of `mlflow.data` with a source and without rows."""
    from mlflow.entities import Dataset, DatasetInput, InputTag
    from mlflow.types import ColSpec, DataType, Schema, TensorSpec

    code = {"tags": {"mlflow.source.name": summary.source, "mlflow.source.type": "LOCAL"}}
    columns: list[ColSpec | TensorSpec] = [ColSpec(DataType.string, name) for name in ("id", "text", "domain")]
    dataset = Dataset(
        name=summary.name,
        digest=summary.digest,
        source_type="code" if summary.generated else "local",
        source=json.dumps(code if summary.generated else {"uri": summary.source}),
        schema=json.dumps({"mlflow_colspec": Schema(columns).to_dict()}),
        profile=json.dumps({"num_rows": summary.rows, "num_rows_by_domain": dict(summary.rows_by_domain)}),
    )
    return DatasetInput(dataset, tags=[InputTag(_CONTEXT_TAG, summary.context)])

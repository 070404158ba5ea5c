"""Measure versions on the test split for the gate, under one configuration; stored answers are reused.

All versions of an examination answer the same problems with the same seeds, sampling and templates: those of the given
configuration, whichever job made the versions. Answers are stored in ledgers below `<root>/gate`, one for each way of
measuring. Answers that a job's final evaluation already got from the same weights are read from that job's ledger.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import astuple
from pathlib import Path
from typing import Any, Final

from envs.prompts import LeakIndex
from envs.solving import SolverAgent
from policies.versions.stored import stored_version
from svd_loop.assembly.backends import open_stored
from svd_loop.assembly.data import problems_of
from svd_loop.assembly.job import template_set
from svd_loop.config import Config, parse_config
from svd_loop.contracts import AgentCall, JobPaths, Policy, Problem, Reply, Role, RootPaths, Scores
from svd_loop.errors import ConfigError
from svd_loop.evaluation.evaluation import Evaluator, problems_digest
from svd_loop.ledger import DurablePolicy, Interrupt, Ledger, LedgerReader
from svd_loop.mlflow_store.records import RegisteredVersion
from svd_loop.mlflow_store.registry import ALARMS_TAG, Registry
from svd_loop.promotion.gate import Evidence
from svd_loop.promotion.lookup import local_folder

SPLIT: Final = "test"


class Examiner:
    """Measures versions and checks their training data. Use `open_examiner`."""

    def __init__(self, config: Config, registry: Registry, ledger: Ledger, interrupt: Interrupt) -> None:
        self._config = config
        self._registry = registry
        self._ledger = ledger
        self._interrupt = interrupt
        self._problems = _test_problems(config)

    @property
    def test_digest(self) -> str:
        """Digest of the test problems with gold, of sampling and of templates.

        Scores are compared only under the same digest.
        """
        config = self._config
        sampling = (config.evaluation.sampling or config.sampling).to_sampling()
        templates = template_set(config)
        template_versions = [templates.version(Role.SOLVER, domain) for domain in config.domains]
        inputs = [
            problems_digest(self._problems),
            config.evaluation.samples,
            config.evaluation.test_seconds,
            astuple(sampling),
            template_versions,
            *(section.model_dump(mode="json") for section in config.evaluation.domains),
        ]
        return hashlib.sha256(json.dumps(inputs).encode()).hexdigest()[:12]

    def examine(self, version: RegisteredVersion) -> Evidence:
        """Measure a version, and search its training data for held-out problems.

        Raises:
            WeightsError: its files are missing or damaged.
            EngineError: the engine failed to answer.
            JobInterrupted: a stop was requested; all answers so far are stored.
        """
        root = self._config.job.root
        alarms = float(version.tags.get(ALARMS_TAG, 0.0))
        return Evidence(str(version), self._scores(version), alarms, self._leaks(version, root))

    def _scores(self, version: RegisteredVersion) -> Scores:
        config = self._config
        stored = stored_version(local_folder(self._registry, version, config.job.root))
        with ExitStack() as stack:
            earlier = [stack.enter_context(reader) for reader in _ledgers_of(version, config.job.root)]
            store = _AnswerCache(self._ledger, earlier)

            def open_policy() -> Policy:
                engine = config.engine
                return DurablePolicy(
                    open_stored(config, stored),
                    store,
                    engine.chunk_size,
                    seconds=engine.chunk_seconds,
                    interrupt=self._interrupt,
                )

            evaluator = Evaluator(
                {SPLIT: self._problems},
                SolverAgent(template_set(config)),
                config.evaluation,
                seed=config.job.seed,
            )
            return evaluator.evaluate(stack.enter_context(closing(open_policy())), SPLIT)

    def _leaks(self, version: RegisteredVersion, root: Path) -> int | None:
        """Count held-out problems in a version's training data; None if the job's ledger is not on this machine."""
        round = int(version.tags.get("svd_loop.round", 0))
        if round == 0 and version.tags.get("svd_loop.kind") == "base":
            return 0
        found = [texts for reader in _ledgers_of(version, root) for texts in [_training_texts(reader, round)]]
        if not found:
            return None
        index = LeakIndex(self._problems, self._config.data.leak)
        held = index.find_each(found[0], [str(version)] * len(found[0]))
        return len({leak.problem_id for leaks in held for leak in leaks})


@contextmanager
def open_examiner(config: Config, registry: Registry) -> Iterator[Examiner]:
    """Yield an examiner for `config`, holding the lock of its ledger until the block ends.

    Raises:
        ConfigError: the configuration has no test split.
    """
    _test_source(config)
    measurement = _measurement(config)
    with (
        Interrupt() as interrupt,
        Ledger.open(RootPaths(config.job.root).measurement(measurement.job.name).folder, measurement) as ledger,
    ):
        yield Examiner(config, registry, ledger, interrupt)


class _AnswerCache:
    """Answers in the examiner's ledger and, read-only, in the ledgers of jobs."""

    def __init__(self, ledger: Ledger, earlier: Sequence[LedgerReader]) -> None:
        self._ledger = ledger
        self._earlier = earlier

    def lookup(self, keys: Iterable[str]) -> dict[str, Reply]:
        wanted = list(keys)
        found = self._ledger.lookup(wanted)
        for reader in self._earlier:
            found |= reader.lookup(key for key in wanted if key not in found)
        return found

    def record(self, items: Sequence[tuple[str, AgentCall, Reply]]) -> None:
        self._ledger.record(items)


def _measurement(config: Config) -> Config:
    """Return the settings that influence the answers and nothing else, as a configuration named by its digest."""
    whole = config.model_dump(mode="json")
    kept: dict[str, Any] = {"engine": whole["engine"], "sampling": whole["sampling"]}
    kept["engine"].pop("chunk_seconds")
    kept["evaluation"] = {key: whole["evaluation"][key] for key in ("samples", "sampling")}
    kept["model"] = whole["model"] | {"path": "gate"}
    kept["data"] = dict.fromkeys(("train", "development", "test"), whole["data"]["test"])
    # Digest of the resolved form: if a later program version changes a default, the answers go to another ledger and
    # are not refused by the old one.
    resolved = parse_config(kept, "gate").model_dump(mode="json")
    digest = hashlib.sha256(json.dumps([resolved, config.job.seed], sort_keys=True).encode()).hexdigest()
    kept["job"] = {"name": digest[:16], "seed": config.job.seed, "root": whole["job"]["root"]}
    return parse_config(kept, "gate")


def _test_source(config: Config) -> None:
    if config.data.test is None:
        raise ConfigError("data.test: null, but the gate compares versions on a test split")


def _test_problems(config: Config) -> list[Problem]:
    _test_source(config)
    assert config.data.test is not None
    return problems_of(config.data.test, SPLIT)


def _ledgers_of(version: RegisteredVersion, root: Path) -> list[LedgerReader]:
    """Open the ledger of the job that made a version, if it is on this machine."""
    paths = RootPaths(root).job(version.tags.get("svd_loop.job", "?"))
    return [LedgerReader.open_for_reading(paths.folder)] if paths.ledger.exists() else []


def _training_texts(reader: LedgerReader, round: int) -> list[str]:
    """Return the prompts and completions a version was trained on: of its job, and of earlier jobs it replayed."""
    with reader:
        texts = _accepted_texts(reader, round)
        for entry in parse_config(reader.config()).schedule.replay.jobs:
            name, _, last = entry.partition("@")
            with LedgerReader.open_for_reading(JobPaths(reader.folder).sibling(name).folder) as earlier:
                texts += _accepted_texts(earlier, int(last))
    return texts


def _accepted_texts(reader: LedgerReader, round: int) -> list[str]:
    query = """SELECT content_text(prompts.text) AS text FROM prompts
               WHERE id IN (SELECT prompt_id FROM accepted_rows WHERE round <= :round)
               UNION ALL
               SELECT content_text(candidates.text) FROM candidates WHERE selected AND round <= :round"""
    reader.verify()
    return [row["text"] for row in reader.query(query.replace(":round", str(int(round))))]

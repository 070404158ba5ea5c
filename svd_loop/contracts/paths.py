"""The files and folders of a job, and those shared by the jobs of one root.

All their names are defined here. Nothing here accesses the disk. Left out:
files inside a folder that only one module uses, such as those of a weight version or of a schedule.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from svd_loop.contracts.records import PolicyVersion


@dataclass(frozen=True, slots=True)
class JobPaths:
    """The files and folders of one job, `<root>/jobs/<name>` for all but the gate's measurements."""

    folder: Path

    @property
    def name(self) -> str:
        """The job's name."""
        return self.folder.name

    @property
    def ledger(self) -> Path:
        """The SQLite file from which a job resumes."""
        return self.folder / "ledger.sqlite"

    @property
    def config(self) -> Path:
        """The resolved configuration, for people; the ledger holds a copy."""
        return self.folder / "config.json"

    @property
    def lock(self) -> Path:
        """Locked while a process runs the job."""
        return self.folder / "lock"

    @property
    def lock_owner(self) -> Path:
        """Names the process that holds the lock."""
        return self.folder / "lock.owner"

    @property
    def versions(self) -> Path:
        """Folder of the weight versions, `round-000` and so on."""
        return self.folder / "versions"

    def version(self, round: int) -> Path:
        """Folder of the version that a round made."""
        return self.versions / PolicyVersion(round, "").name

    @property
    def prompts(self) -> Path:
        """The prompt pool, built from the data on first use."""
        return self.folder / "prompts.sqlite"

    @property
    def leaks(self) -> Path:
        """JSON Lines of completions that held a held-out problem."""
        return self.folder / "completions.leaks.jsonl"

    @property
    def report(self) -> Path:
        """The report page."""
        return self.folder / "report.html"

    @property
    def tracking_id(self) -> Path:
        """The id under which trackers know this job; absent if it was never tracked."""
        return self.folder / "tracking-id"

    @property
    def fork_part(self) -> Path:
        """Folder in which a fork is assembled before it is renamed to `folder`."""
        return self.folder.with_name(f".{self.name}.fork")

    def sibling(self, name: str) -> JobPaths:
        """Another job of the same root."""
        return JobPaths(self.folder.with_name(name))


@dataclass(frozen=True, slots=True)
class RootPaths:
    """The files and folders below `job.root`."""

    root: Path

    def job(self, name: str) -> JobPaths:
        """The files of a job."""
        return JobPaths(self.root / "jobs" / name)

    @property
    def gate(self) -> Path:
        """Folder of the gate's measurements."""
        return self.root / "gate"

    @property
    def gate_lock(self) -> Path:
        """Locked while a process promotes."""
        return self.gate / "lock"

    def measurement(self, name: str) -> JobPaths:
        """The files of one of the gate's measurements, which are kept like a job's."""
        return JobPaths(self.gate / name)

    def model(self, name: str) -> Path:
        """Folder of a registered model's versions that were fetched or merged."""
        return self.root / "models" / name

    def schedule(self, name: str) -> Path:
        """Folder of a schedule."""
        return self.root / "schedules" / name

    def sweep(self, name: str) -> Path:
        """Folder of a sweep; its jobs have it as their root."""
        return self.root / "sweeps" / name

    @property
    def mlflow_store(self) -> Path:
        """MLflow's database, unless a tracking URI names another."""
        return self.root / "mlflow.db"

    @property
    def mlflow_artifacts(self) -> Path:
        """MLflow's artifacts, where no server keeps them."""
        return self.root / "artifacts"

    @property
    def mlflow_lock(self) -> Path:
        """Locked while a process opens, and perhaps migrates, MLflow's database."""
        return self.root / ".mlflow.lock"

"""Run an update on several nodes of a Ray cluster: `accelerate launch` on each of them, in an actor.

The nodes need not share a file system. Each gets the starting version and the run's folder through the object store,
in a folder of its own, and process 0's results come back the same way. Ray finds nodes and carries files; what runs on
them is what runs on one machine.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from policies.cluster.connection import connect, reserve, resources_of
from policies.cluster.parcel import Parcel, from_store, pack, to_store, unpack
from policies.training import launching
from policies.training import process as program
from policies.training.run import TrainingTask
from policies.versions.stored import stored_version
from svd_loop.errors import SvdError, TrainingError, first_line

_log = logging.getLogger(__name__)
_POLL_SECONDS = 1.0


def run_on_nodes(task: TrainingTask, notice: Callable[[int], None]) -> int:
    """Train on `update.launch.nodes` nodes; the results are in the run's folder afterwards.

    Args:
        task: the run; its folder holds the launcher's and the program's inputs.
        notice: called with the number of finished steps.

    Returns:
        The largest exit code of a launcher.

    Raises:
        ConfigError: Ray is missing, no cluster answers, or it has no room.
        TrainingError: a node died.
    """
    import ray
    from ray.exceptions import RayError, RayTaskError
    from ray.util.placement_group import remove_placement_group

    section = task.settings.launch
    connect(section.address, key="update.launch.address")
    each = section.processes // section.nodes
    share = resources_of(each, 0 if task.device == "cpu" else each)
    group: Any = reserve(section.nodes, share, key="update.launch.nodes", seconds=section.start_seconds, apart=True)
    try:
        nodes = [_place(group, index, share) for index in range(section.nodes)]
        parcel = pack(stored_version(task.start))
        inputs = {name: to_store(task.work / name) for name in (launching.CONFIG, program.ROWS)}
        ray.get([node.prepare.remote(parcel, task.dump(), inputs) for node in nodes])
        host, port = ray.get(nodes[0].address.remote())
        running = [node.run.remote(rank, host, port) for rank, node in enumerate(nodes)]
        while (ended := ray.wait(running, num_returns=len(running), timeout=_POLL_SECONDS))[1]:
            if any(ray.get(ended[0])):  # the others would wait for the one that failed
                ray.get([node.stop.remote() for node in nodes])
            notice(ray.get(nodes[0].step.remote()))
        codes: list[int] = ray.get(running)
        for name, pieces in _merged(ray.get([node.results.remote(rank) for rank, node in enumerate(nodes)])).items():
            from_store(pieces, task.work / name)
        return max(codes, key=abs)
    except RayTaskError as error:
        if isinstance(error.cause, SvdError):
            raise error.cause from None
        raise
    except RayError as error:
        raise TrainingError(
            f"a node of the update was lost: {first_line(error)}. Nodes keep no checkpoints (update.launch.type: ray): "
            "the same command repeats the update from its first step"
        ) from None
    finally:
        remove_placement_group(group)  # ends the actors, and these their processes


class _Stopped(Exception):
    """Another node failed."""


class Node:
    """The actor: a node's part of the run."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="svd-loop-"))
        self._work = self._folder / "work"
        self._stopped = False

    def prepare(self, parcel: Parcel, task: str, inputs: Mapping[str, Sequence[Any]]) -> None:
        """Write the starting version and the run's folder.

        Raises:
            WeightsError: other files arrived than were stored.
        """
        start = unpack(parcel, self._folder).path
        for name, pieces in inputs.items():
            from_store(pieces, self._work / name)
        own = replace(TrainingTask.parse(task), start=start, work=self._work)
        (self._work / program.TASK).write_text(own.dump(), encoding="utf-8")

    def address(self) -> tuple[str, int]:
        """Where the other nodes find this one's first process."""
        from ray.util import get_node_ip_address

        return get_node_ip_address(), launching.free_port()

    def run(self, rank: int, host: str, port: int) -> int:
        """Start this node's processes and wait for their end; returns the launcher's exit code, 0 once stopped."""
        where = ["--machine_rank", str(rank), "--main_process_ip", host, "--main_process_port", str(port)]
        try:
            return launching.run_here(self._work, launching.accelerate_command(self._work, *where), self._go_on)
        except _Stopped:
            (self._work / launching.LOG).unlink()  # it tells of the stop, and would be taken for the cause
            return 0

    def stop(self) -> None:
        """End this node's processes, because another's have failed."""
        self._stopped = True

    def _go_on(self, step: int) -> None:
        if self._stopped:
            raise _Stopped

    def step(self) -> int:
        """Finished optimizer steps."""
        return launching.finished_steps(self._work)

    def results(self, rank: int) -> dict[str, list[Any]]:
        """What the processes wrote, by path in the run's folder: weights and figures on node 0, errors on any."""
        found = [*self._work.glob("failure-*.json"), self._work / launching.LOG]
        if rank == 0:
            found += [self._work / program.RESULT, *self._work.glob(f"{program.WEIGHTS}/*")]
            found += self._work.glob("candidates/*/*")
        files = {str(path.relative_to(self._work)): to_store(path) for path in found if path.is_file()}
        shutil.rmtree(self._folder)
        return files


def _place(group: Any, index: int, share: Mapping[str, float]) -> Any:
    import ray
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    strategy = PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=index)
    options = {"num_cpus": share["CPU"], "num_gpus": share.get("GPU", 0), "max_concurrency": 2}
    return ray.remote(**options)(Node).options(scheduling_strategy=strategy).remote()


def _merged(found: Sequence[Mapping[str, list[Any]]]) -> dict[str, list[Any]]:
    """The files of all nodes; what they printed one after the other."""
    merged: dict[str, list[Any]] = {}
    for files in found:
        for name, pieces in files.items():
            merged.setdefault(name, []).extend(pieces)
    return merged

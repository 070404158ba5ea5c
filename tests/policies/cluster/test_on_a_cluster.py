"""A Ray cluster of two nodes on this machine: real raylets, real actors, real deaths.

Needs Ray (`make setup-ray`, which `make test` does). The cluster is shared by the tests of this file, and their engine
by most of them. Actors are forks of a process with torch and transformers behind it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from contextlib import closing, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("ray", reason="Ray is not installed: make setup-ray")

import ray
from ray.cluster_utils import Cluster

from envs.cascade.cascade import Cascade
from envs.cascade.template_sets import TemplateSet
from envs.prompts.normalise import content_id
from envs.round_env import SelfVerificationEnv
from envs.self_verification import SelfVerification
from envs.solving import SolverAgent
from policies.cluster.connection import connect
from policies.cluster.parcel import pack
from policies.engines.dispatch import Unavailable
from policies.engines.ray import Opening, RayEngine, Server, _probe, open_engine
from policies.engines.ray_replica import Replica, StreamedReplica
from policies.engines.transformers import TransformersEngine
from policies.engines.transformers import open_engine as open_local
from policies.engines.vllm_child import Probed, reference_logprobs
from policies.policy import ModelPolicy
from policies.text.chat import ChatCodec
from policies.training import launching, on_ray
from policies.training.on_ray import run_on_nodes
from policies.training.run import TrainingTask
from policies.versions.checkpoints import load_codec, load_model
from policies.versions.stored import StoredVersion
from policies.versions.weights import WeightStore
from svd_loop.config.engines import RayEngineSection, TransformersEngineSection
from svd_loop.config.sections import CascadeSection, ModelSection
from svd_loop.contracts import BUILT_IN_ROLES, Domain, Generation, GenerationRequest, Message, Prompt, Sampling
from svd_loop.errors import ConfigError, ModelError, TrainingError, WeightsError
from svd_loop.nano import NANO_CHECKPOINT
from tests.policies.training.forked_job import LAUNCHES
from tests.policies.updates import parent, rows, settings, updater
from tests.processes import FOR_ENGINES, FOR_TESTS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

NODE = {
    "num_cpus": 3,
    "object_store_memory": 80 * 2**20,
    "include_log_monitor": False,  # nobody reads what workers print
    "setup_worker_path": str(Path(__file__).with_name("forked_worker.py")),
}
"""Room for both replicas on one node, beside a part of an update."""
SETTINGS = {"RAY_AUTH_MODE": "disabled", "RAY_worker_niceness": "0", "RAY_prestart_worker_first_driver": "0"}
"""Ray would look for a token at home, give way to everything else on this machine, and start idle workers."""
HEAD = {**NODE, "include_dashboard": False, "no_monitor": True}
MODEL = ModelSection.model_validate({"path": "nano", "device": "cpu", "dtype": "float32"})
ALONE = TransformersEngineSection(batch_size=1, threads=1)
"""Rows are computed one by one: in a batch, the last bits of a row depend on the others."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in SETTINGS.items():
            patch.setenv(name, value)
        for server in (FOR_TESTS, FOR_ENGINES):
            server.share()
        found = Cluster(initialize_head=True, head_node_args=HEAD)
        try:
            found.add_node(**NODE)
            connect(found.address, key="engine.address")
            yield found
        finally:
            ray.shutdown()
            found.shutdown()


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> StoredVersion:
    return WeightStore(tmp_path_factory.mktemp("versions")).add_base(NANO_CHECKPOINT)


@pytest.fixture(scope="module")
def codec(stored: StoredVersion) -> ChatCodec:
    return load_codec(stored)


@pytest.fixture(scope="module")
def local(stored: StoredVersion, codec: ChatCodec) -> TransformersEngine:
    return open_local(stored, codec, ALONE, MODEL)


@pytest.fixture(scope="module")
def engine(cluster: Cluster, stored: StoredVersion, codec: ChatCodec) -> Iterator[RayEngine]:
    with closing(open_on(cluster, stored, codec, replicas=2)) as opened:
        yield opened


def open_on(cluster: Cluster, stored: StoredVersion, codec: ChatCodec, **settings: Any) -> RayEngine:
    section = RayEngineSection(address=cluster.address, replica=ALONE, **settings)
    return open_engine(stored, codec, section, MODEL, reference=here)


def here(probed: Probed, seconds: float) -> list[list[float]]:
    """The reference without a child process."""
    return reference_logprobs(probed)


def requests(codec: ChatCodec, count: int) -> list[GenerationRequest]:
    prompts = codec.encode([(Message("user", f"What is {index} + {index * 7}?"),) for index in range(count)])
    return [GenerationRequest(tuple(ids), Sampling(32), seed=index) for index, ids in enumerate(prompts)]


def of_actor(actor: Any, look: Callable[[Any], Any]) -> Any:
    return ray.get(actor.__ray_call__.remote(look))


def node_of(actor: Any) -> str:
    return str(of_actor(actor, lambda self: ray.get_runtime_context().get_node_id()))


def wait_until_back(engine: RayEngine) -> None:
    """Until every replica is loaded again."""

    async def wait() -> None:
        for replica in engine._replicas([]):
            while True:
                try:
                    await replica.ready()
                    break
                except Unavailable:
                    await asyncio.sleep(0.2)

    asyncio.run(asyncio.wait_for(wait(), 240))


class Watch:
    """Sees what replicas are asked, and kills one's process while that has its second call to answer.

    The process is stopped before it gets the call, so that it cannot answer before it dies; `strike` comes before its
    end. The other replica's third call waits until then: on a busy machine it would take all the rows.
    """

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        name: str = "",
        process: int = 0,
        strike: Callable[[], None] = lambda: None,
    ) -> None:
        self.asked: Counter[int] = Counter()
        self.of: Counter[str] = Counter()
        self._name = name
        self._process = process
        self._strike = strike
        self._struck = asyncio.Event()
        whole, streamed = Replica.answer, StreamedReplica.advance

        async def answer(replica: Replica, row: int) -> Any:
            return await self._watched(
                replica, [one.seed for one in replica._batches[row]], partial(whole, replica, row)
            )

        async def advance(replica: StreamedReplica, put: list[tuple[int, GenerationRequest]], drop: list[int]) -> Any:
            return await self._watched(replica, [one.seed for _, one in put], partial(streamed, replica, put, drop))

        monkeypatch.setattr(Replica, "answer", answer)
        monkeypatch.setattr(StreamedReplica, "advance", advance)

    async def _watched(
        self, replica: Replica | StreamedReplica, seeds: list[int], call: Callable[[], Coroutine[Any, Any, Any]]
    ) -> Any:
        self.asked.update(seeds)
        self.of[replica.name] += bool(seeds)
        if replica.name != self._name or not seeds or self.of[self._name] != 2:
            if self._name not in ("", replica.name) and self.of[replica.name] > 2:
                await self._struck.wait()
            return await call()
        os.kill(self._process, signal.SIGSTOP)
        asked = asyncio.ensure_future(call())
        await asyncio.sleep(0)
        self._strike()
        with suppress(ProcessLookupError):
            os.kill(self._process, signal.SIGKILL)
        self._struck.set()
        return await asked


def streamed(engine: RayEngine, asked: list[GenerationRequest]) -> list[Generation]:
    """The answers to requests in flight, which are put as earlier ones finish."""
    found: dict[int, Generation] = {}
    rest = list(enumerate(asked))
    with closing(engine.stream()) as stream:
        while rest or len(found) < len(asked):
            stream.put([rest.pop(0) for _ in range(min(4, len(rest)))])
            answers = dict(stream.take())
            assert answers and not answers.keys() & found.keys()
            found |= answers
    return [found[number] for number in range(len(asked))]


def test_a_round_is_the_local_one_vote_by_vote(
    engine: RayEngine, local: TransformersEngine, stored: StoredVersion, codec: ChatCodec
) -> None:
    assert len({node_of(actor) for actor in engine._actors}) == 2
    samplings = {role: Sampling(32) for role in BUILT_IN_ROLES}
    questions = [f"What is {number} + {number * 7}?" for number in range(6)]
    policies = [
        ModelPolicy(runs, codec, stored.version, samplings, job_seed=3, max_context=512) for runs in (engine, local)
    ]
    found, expected = (
        SelfVerification(policy, n=2, templates="nano", cascade={"votes": 1}).play(questions) for policy in policies
    )
    assert len(expected.verdicts) >= 6
    assert any(vote.value for verdict in expected.verdicts for vote in verdict.votes)
    assert found == expected
    templates = TemplateSet.load("nano")
    prompts = [Prompt(content_id(text, Domain.MATH), text, Domain.MATH) for text in questions]
    env = SelfVerificationEnv(prompts=prompts, cascade=Cascade(templates, CascadeSection(votes=1)), n=2, block=1)
    env.reset(options={"round": 1})
    assert env.flow(policies[0], SolverAgent(templates)) == expected
    assert engine.prefix_cache.prompt_tokens > 500


def test_requests_in_flight_are_answered_as_they_finish_unless_they_are_dropped(
    engine: RayEngine, local: TransformersEngine, codec: ChatCodec
) -> None:
    asked = requests(codec, 12)
    endless = replace(asked[0], sampling=Sampling(400), choices=codec.choices(("endless " * 100,)))
    expected = local.generate(asked)
    with closing(engine.stream()) as stream:
        assert (stream.slots, stream.take()) == (2, [])
        stream.put([(98, endless), (99, endless), *enumerate(asked)])
        stream.drop([98, 99, 3, 77])  # the first two run, or will
        found: dict[int, Generation] = {}
        while answers := stream.take():
            found |= dict(answers)
        stream.put([(98, endless)])  # closed while it runs
    assert found == {number: answer for number, answer in enumerate(expected) if number != 3}
    assert engine.generate(asked[:2]) == expected[:2]


def test_a_replica_killed_in_the_middle_of_a_stream_costs_its_open_row_and_comes_back(
    engine: RayEngine, local: TransformersEngine, codec: ChatCodec, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = requests(codec, 24)
    first = engine._actors[0]
    process = of_actor(first, lambda self: os.getpid())
    with monkeypatch.context() as patch:
        watch = Watch(patch, "replica 0", process)
        assert streamed(engine, asked) == local.generate(asked)
    assert sorted(watch.asked.values()) == [1] * 23 + [2]
    wait_until_back(engine)
    assert of_actor(first, lambda self: os.getpid()) != process
    for answers in (engine.generate, partial(streamed, engine)):
        with monkeypatch.context() as patch:
            watch = Watch(patch)
            assert answers(asked) == local.generate(asked)
        assert set(watch.of) == {"replica 0", "replica 1"}


def test_what_arrives_is_what_was_stored(
    cluster: Cluster, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The actor's own code, in this process, with an adapter."""
    updater(tmp_path, checkpoint, steps=2, method="lora", learning_rate=1e-1).fit(
        rows(8), round=1, parent=parent(tmp_path)
    )
    adapted = WeightStore(tmp_path / "versions").load(1)
    codec, parcel = load_codec(adapted), pack(adapted)
    adapter = (adapted.version.name, 1, str(adapted.path))
    prompts = _probe(codec, MODEL)
    found = reference_logprobs(Probed(checkpoint=str(checkpoint), dtype="float32", adapter=adapter, prompts=prompts))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    asked = requests(codec, 12)
    server = Server()
    server.load(parcel, Opening(ALONE, MODEL, found))
    assert server.loaded()
    assert server.generate(asked).generations == open_local(adapted, codec, ALONE, MODEL).generate(asked)
    server.close()
    with pytest.raises(ModelError, match=r"the replica and transformers disagree .* by 0\.2 nats"):
        Server().load(parcel, Opening(ALONE, MODEL, [[value - 0.2 for value in row] for row in found]))
    with pytest.raises(WeightsError, match=f"arrived with fingerprint .*, is stored with {'0' * 12}"):
        Server().load(replace(parcel, fingerprint="0" * 64), Opening(ALONE, MODEL, found))
    assert not list((tmp_path / "temporary").iterdir())


def test_an_update_over_two_nodes_has_the_weights_of_one_process(
    cluster: Cluster, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first node's launcher and process are new interpreters, the second's are forks."""

    class ForksOnTheSecond(on_ray.Node):
        def run(self, rank: int, host: str, port: int) -> int:
            if rank == 1:
                pytest.MonkeyPatch().setattr(launching, "subprocess", LAUNCHES)
            return super().run(rank, host, port)

    monkeypatch.setattr(on_ray, "Node", ForksOnTheSecond)
    run = {"steps": 8, "micro_batch_size": 1, "choose_from": 2}
    launch = {"type": "ray", "nodes": 2, "processes": 2, "strategy": "fsdp2", "address": cluster.address}
    weights, states = [], []
    for name, where in {"one": {}, "two": {"launch": launch}}.items():
        folder = tmp_path / name
        result = updater(folder, checkpoint, **run, **where).fit(rows(13), round=1, parent=parent(folder))
        assert (result.steps, result.candidates) == (8, (4, 8))
        store = WeightStore(folder / "versions")
        states.append(load_model(store.load(1), device="cpu").state_dict())
        weights.append(load_model(store.load(0), device="cpu").state_dict())
    for key, weight in states[0].items():
        assert torch.allclose(weight, states[1][key], atol=1e-5), key
        assert not torch.allclose(weight, weights[0][key], atol=1e-3), key


def test_a_node_whose_launcher_fails_ends_the_update_of_the_others(
    cluster: Cluster, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Node 0 would wait for the other until its rendezvous gives up."""

    class FailsOnTheSecond(on_ray.Node):
        def run(self, rank: int, host: str, port: int) -> int:
            if rank == 0:  # in the actor's process: a launcher that waits for its peers
                pytest.MonkeyPatch().setattr(launching, "accelerate_command", lambda work, *where: ["sleep", "600"])
                return super().run(rank, host, port)
            (self._work / launching.LOG).write_text("no such device")
            return 3

    monkeypatch.setattr(on_ray, "Node", FailsOnTheSecond)
    launch = {"type": "ray", "nodes": 2, "processes": 2, "address": cluster.address}
    update = updater(tmp_path, checkpoint, steps=1, launch=launch)
    with pytest.raises(TrainingError, match=r"exit code 3; its last words:\nno such device$"):
        update.fit(rows(4), round=1, parent=parent(tmp_path))


def test_a_cluster_without_room_or_out_of_reach_is_an_error_that_names_the_key(
    cluster: Cluster, stored: StoredVersion, codec: ChatCodec, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"engine\.replicas: 70 of 1 CPU each: there is no room .* 2 nodes with"):
        open_on(cluster, stored, codec, replicas=70, start_seconds=0.1)
    asked = settings(steps=1, launch={"type": "ray", "nodes": 9, "processes": 9, "start_seconds": 0.1}, batch_size=9)
    task = TrainingTask(asked, stored.path, tmp_path, 0, 1, 0, "cpu", "round 1")
    with pytest.raises(ConfigError, match=r"update\.launch\.nodes: 9 of 1 CPU each, on nodes of their own: there"):
        run_on_nodes(task, lambda step: None)
    with pytest.raises(ConfigError, match=r"engine\.address: the Ray cluster at 127\.0\.0\.1:1 cannot be used"):
        connect("127.0.0.1:1", key="engine.address")


def test_a_node_that_dies_in_the_middle_of_a_wave_leaves_its_work_to_the_other(
    cluster: Cluster,
    engine: RayEngine,
    local: TransformersEngine,
    codec: ChatCodec,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = requests(codec, 24)
    (node,) = cluster.worker_nodes
    (index,) = [index for index, actor in enumerate(engine._actors) if node_of(actor) == node.node_id]
    process = of_actor(engine._actors[index], lambda self: os.getpid())
    with monkeypatch.context() as patch:
        strike = partial(cluster.remove_node, node, allow_graceful=False)
        watch = Watch(patch, f"replica {index}", process, strike)
        assert engine.generate(asked) == local.generate(asked)
    assert sorted(watch.asked.values()) == [1] * 23 + [2]
    wait_until_back(engine)
    assert {node_of(actor) for actor in engine._actors} == {cluster.head_node.node_id}

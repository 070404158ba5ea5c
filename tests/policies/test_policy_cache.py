"""How often versions are opened, and that nothing is open while training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from policies.policy_cache import PolicyCache
from svd_loop.assembly.scripted_backend import ScriptedBackend
from svd_loop.contracts import AgentCall, Policy, PolicyVersion, Reply, UpdateMaterial, UpdateResult
from svd_loop.jobs import run_job
from tests.svd_loop.jobs_support import small


class Engine:
    def __init__(self, round: int, log: list[str]) -> None:
        self._round, self._log = round, log
        log.append(f"open {round}")

    @property
    def version(self) -> PolicyVersion:
        return PolicyVersion(self._round, "f")

    def key(self, call: AgentCall) -> str:
        return "k"

    def generate(self, calls: Sequence[AgentCall]) -> list[Reply]:
        return []

    def close(self) -> None:
        self._log.append(f"close {self._round}")


def test_a_version_asked_for_again_is_not_opened_again() -> None:
    log: list[str] = []
    with PolicyCache(lambda round: Engine(round, log)) as cache:
        for _ in range(2):
            policy = cache.open(3)
            assert policy.version.round == 3
            policy.close()
            policy.close()  # giving back twice gives back once
        assert log == ["open 3"]
        other = cache.open(4)  # one at a time, unless both are in use
        assert log == ["open 3", "close 3", "open 4"]
        other.close()
    assert log[-1] == "close 4"


def test_two_in_use_at_once_are_two_and_the_one_given_back_last_is_kept() -> None:
    log: list[str] = []
    with PolicyCache(lambda round: Engine(round, log)) as cache:
        policy, judge = cache.open(2), cache.open(0)
        judge.close()
        policy.close()
        assert log == ["open 2", "open 0", "close 0"]
        cache.open(2).close()
    assert log == ["open 2", "open 0", "close 0", "close 2"]


def test_what_is_in_use_at_the_end_is_left_alone() -> None:
    log: list[str] = []
    with PolicyCache(lambda round: Engine(round, log)) as cache:
        cache.open(1)  # an engine that hangs is never given back
    assert log == ["open 1"]


def test_a_job_opens_each_version_once_a_round_and_trains_with_nothing_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log: list[str] = []
    real_open, real_update = ScriptedBackend.open, ScriptedBackend.update

    class Counted:
        def __init__(self, policy: Policy, round: int) -> None:
            self._policy, self._round = policy, round
            log.append(f"open {round}")

        def __getattr__(self, name: str) -> object:
            return getattr(self._policy, name)

        def close(self) -> None:
            log.append(f"close {self._round}")
            self._policy.close()

    def opened(self: ScriptedBackend, round: int) -> object:
        return Counted(real_open(self, round), round)

    def updated(self: ScriptedBackend, material: UpdateMaterial, round: int, parent: int) -> UpdateResult:
        log.append(f"update {round}")
        return real_update(self, material, round, parent)

    monkeypatch.setattr(ScriptedBackend, "open", opened)
    monkeypatch.setattr(ScriptedBackend, "update", updated)
    run_job(small(tmp_path))
    assert log == ["open 0", "close 0", "update 1", "open 1", "close 1", "update 2", "open 2", "close 2"]

"""The server engine's configuration, and what `svd-loop check` sees of its endpoints."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from policies.engines.served.inspection import inspect_endpoints
from svd_loop.config import load_config
from svd_loop.config.engines import ServerEngineSection
from svd_loop.errors import ConfigError, EngineError, JobConflictError
from svd_loop.ledger.identity import refuse_changes
from svd_loop.preflight.checks import preflight
from tests.policies.engines.completion_server import CompletionServer

NANO = Path(__file__).parents[4] / "configs" / "nano.yaml"
SERVED = ["engine={type: server, endpoints: ['http://a:8000']}", "update.method=lora"]
SMALL = ["tracking.enabled=false", "data.train.count=3", "data.development.count=1", "data.test=null"]


@pytest.fixture
def server() -> Iterator[CompletionServer]:
    started = CompletionServer()
    yield started
    started.close()


def section(*servers: CompletionServer, **settings: Any) -> ServerEngineSection:
    return ServerEngineSection(endpoints=tuple(server.url for server in servers), retries=0, **settings)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["engine.endpoints=[]"], "at least 1 item"),
        (["engine.endpoints=['gpu1:8000']"], "gpu1:8000 is no base URL; they look like http://host:8000"),
        (["engine.endpoints=['http://a:8000', 'http://a:8000/v1/']"], "http://a:8000 is named twice"),
        (["engine.endpoints=['http://me:hunter2@a:8000']"], "a URL holds a user name or password"),
        (["engine.api_key_env=sk-hunter2"], "must be the name of an environment variable"),
        (["engine.api_key=hunter2"], "api_key: unknown key; did you mean api_key_env?"),
        (["engine.reload={type: command, command: [restart, '{checkpoint}']}"], "must contain {name}"),
        (["update.method=full"], "update.method: full needs engine.reload"),
        (
            ["update.method=full", "engine.reload={type: in_place}", "cascade.frozen_judge=true"],
            "cascade.frozen_judge: asks two versions in turn",
        ),
    ],
)
def test_settings_that_cannot_work_are_refused_without_repeating_a_secret(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(NANO, [*SERVED, *overrides])
    assert message in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_a_base_url_may_be_written_in_the_ways_people_write_it() -> None:
    written = ServerEngineSection(endpoints=("http://a:8000/", "https://b/v1", "http://c:1/prefix/v1/"))
    assert written.endpoints == ("http://a:8000", "https://b", "http://c:1/prefix")


def test_a_job_may_go_on_with_other_endpoints_but_not_with_another_engine(tmp_path: Path) -> None:
    begun = load_config(NANO, SERVED).model_dump(mode="json")
    moved = load_config(
        NANO,
        [
            *SERVED,
            "engine.endpoints=['http://b:1', 'http://c:1']",
            "engine.api_key_env=KEY",
            "engine.concurrency=7",
            "engine.reload={type: in_place}",
        ],
    )
    refuse_changes(tmp_path, begun, moved)
    with pytest.raises(JobConflictError, match=r"engine\.type: 'server' -> 'transformers'"):
        refuse_changes(tmp_path, begun, load_config(NANO, ["update.method=lora"]))
    with pytest.raises(JobConflictError, match=r"engine\.repetition"):
        refuse_changes(tmp_path, begun, load_config(NANO, [*SERVED, "engine.repetition={count: 5}"]))


def test_check_looks_at_the_endpoints(server: CompletionServer, tmp_path: Path) -> None:
    endpoints = f"engine={{type: server, endpoints: ['{server.url}', 'http://127.0.0.1:9'], retries: 0}}"
    overrides = [f"job.root={tmp_path}", endpoints, "update.method=lora", "model.max_context=512", *SMALL]
    (found,) = [item for item in preflight(load_config(NANO, overrides)).checks if item.name == "endpoints"]
    assert not found.ok
    assert found.detail.startswith("1 of 2 endpoints cannot be used:")
    assert "http://127.0.0.1:9/health: no connection" in found.detail
    alone = [*overrides, f"engine.endpoints=['{server.url}']"]
    (found,) = [item for item in preflight(load_config(NANO, alone)).checks if item.name == "endpoints"]
    assert (found.ok, found.detail) == (True, f"{server.url} serves base")
    assert server.adapters == {}


def test_check_says_what_to_set_where_the_key_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    config = load_config(NANO, [*SERVED, f"job.root={tmp_path}", "engine.api_key_env=NO_SUCH_KEY", *SMALL])
    details = [item.detail for item in preflight(config).checks if not item.ok]
    assert any("environment variable NO_SUCH_KEY is not set" in detail for detail in details)


@pytest.mark.parametrize(
    ("server_settings", "settings", "message"),
    [
        ({"longest": 100}, {}, "context of 100 tokens"),
        ({"lora": False}, {}, "VLLM_ALLOW_RUNTIME_LORA_UPDATING=True"),
        ({"dev": False}, {"reload": {"type": "in_place"}}, "VLLM_SERVER_DEV_MODE=1"),
        ({}, {"model": "qwen"}, "it serves base"),
        ({"key": "k"}, {}, "401"),
    ],
)
def test_what_will_not_do_is_said(server_settings: dict[str, Any], settings: dict[str, Any], message: str) -> None:
    started = CompletionServer(**server_settings)
    try:
        with pytest.raises(EngineError, match=message):
            inspect_endpoints(section(started, **settings), max_context=256, adapters=True)
    finally:
        started.close()


def test_a_server_without_token_ids_will_not_do(server: CompletionServer) -> None:
    server.change = lambda answer: answer.pop("token_ids")
    with pytest.raises(EngineError, match="gives no token ids"):
        inspect_endpoints(section(server), max_context=256, adapters=True)


def test_a_reload_command_has_to_exist(server: CompletionServer) -> None:
    command = ("/no/such/restart", "{checkpoint}", "{name}")
    with pytest.raises(ConfigError, match="/no/such/restart is not an executable program"):
        inspect_endpoints(
            section(server, reload={"type": "command", "command": command}), max_context=256, adapters=False
        )
    reload = {"type": "command", "command": ("true", "{checkpoint}", "{name}")}
    assert inspect_endpoints(section(server, reload=reload), max_context=9999, adapters=False).endswith("serves base")

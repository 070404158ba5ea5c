"""How versions reach small servers: adapters, weights in place, and by a command."""

from __future__ import annotations

import sys
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from policies.engines.serving import Served
from svd_loop.errors import EngineError, ModelError
from tests.policies.engines.server_engines import Servers, expected, open_engine, rows


def adapter(folder: str = "/versions/round-001", name: str = "round-001-def") -> Served:
    return Served(Path("/versions/base"), name, 1, Path(folder))


def test_an_adapter_is_loaded_under_the_versions_name_beside_its_base(servers: Servers) -> None:
    one, other = servers(), servers()
    with (
        closing(open_engine(one, other)) as judge,
        closing(open_engine(one, other, served=adapter(), weights="round-001")) as engine,
    ):
        assert one.adapters == other.adapters == {"round-001-def": "round-001"}
        assert engine.generate(rows(20)) == judge.generate(rows(20)) == expected(rows(20))
        assert {body["model"] for body in one.asked + other.asked} == {"round-001-def", "base"}
        with closing(open_engine(one, other, served=adapter(), weights="round-001")):
            pass  # loaded already; closing it takes it from under the other, who loads it again
        assert one.adapters == {}
        assert engine.generate(rows(20)) == expected(rows(20))
    assert one.adapters == other.adapters == {}


def test_a_restarted_server_gets_its_adapter_back_mid_wave(servers: Servers) -> None:
    server = servers()
    with closing(open_engine(server, served=adapter(), weights="round-001", recovery_seconds=60.0)) as engine:
        server.faults.extend([lambda body: None] * 3)
        server.faults.append(lambda body: server.adapters.clear())
        assert engine.generate(rows(40)) == expected(rows(40))
        assert server.calls["/v1/load_lora_adapter"] == 2


@pytest.mark.parametrize(
    ("folder", "settings", "message"),
    [
        ("/nowhere/round-001", {}, "does not find the adapter in /nowhere/round-001.*under the same path"),
        ("/broken/round-001", {}, "LoRA rank 64 is greater than max_lora_rank 16.*--max-lora-rank"),
        ("/versions/round-001", {"lora": False}, "VLLM_ALLOW_RUNTIME_LORA_UPDATING=True"),
        ("/versions/round-009", {}, "disagree about /versions/round-009"),
    ],
)
def test_an_adapter_that_cannot_be_served_says_what_to_change(
    servers: Servers, folder: str, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        open_engine(servers(**settings), served=adapter(folder), weights="round-001")


FULL = Served(Path("/versions/round-002"), "round-002-fff", 2)


def test_full_weights_are_changed_in_place_and_again_after_a_restart(servers: Servers) -> None:
    server = servers()
    in_place = {"reload": {"type": "in_place"}}
    with closing(open_engine(server, served=FULL, weights="round-002", **in_place)) as engine:
        assert (server.weights, server.weight_version) == ("round-002", "round-002-fff")
        steps = ("/pause", "/collective_rpc", "/reset_prefix_cache", "/update_weight_version", "/resume")
        assert [server.calls[path] for path in steps] == [1] * 5
        assert engine.generate(rows(5)) == expected(rows(5))
        assert server.calls["/collective_rpc"] == 1
        server.stop()
        server.start()
        assert engine.generate(rows(5)) == expected(rows(5))
        assert server.weights == "round-002"
    with closing(open_engine(server, weights="base", **in_place)):
        assert server.weights == "base"


def test_a_tied_head_is_named_where_in_place_weights_differ(servers: Servers, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"tie_word_embeddings": true}')
    served = Served(tmp_path, "round-002-fff", 2)
    with pytest.raises(ModelError, match=r"disagree about .*tie_word_embeddings.*type: command"):
        open_engine(servers(), served=served, weights="round-002", reload={"type": "in_place"})


def test_full_weights_by_a_command_that_restarts_the_server(servers: Servers, tmp_path: Path) -> None:
    server = servers()
    told = tmp_path / "told"
    server.stop()  # the command starts what is down, too

    def restart() -> None:
        while not told.exists() or not told.read_text().endswith("\n"):
            threading.Event().wait(0.01)
        checkpoint, server.model, _ = told.read_text().split()
        server.start()
        server.weights = checkpoint.rpartition("/")[2]

    thread = threading.Thread(target=restart)
    thread.start()
    program = "import sys; open(sys.argv[1], 'w').write(' '.join(sys.argv[2:]) + '\\n')"
    command = [sys.executable, "-c", program, str(told), "{checkpoint}", "{name}", "{endpoint}"]
    with closing(
        open_engine(server, served=FULL, weights="round-002", reload={"type": "command", "command": command})
    ) as engine:
        thread.join()
        assert told.read_text() == f"/versions/round-002 round-002-fff {server.url}\n"
        assert engine.generate(rows(5)) == expected(rows(5))
        assert server.asked[0]["model"] == "round-002-fff"


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["sh", "-c", "echo no such host >&2; exit 7", "{checkpoint}", "{name}"], "exit code 7: no such host"),
        (["/no/such/program", "{checkpoint}", "{name}"], "/no/such/program cannot be started"),
    ],
)
def test_a_command_that_fails_is_quoted(servers: Servers, command: list[str], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        open_engine(servers(), served=FULL, reload={"type": "command", "command": command})


def test_a_command_that_does_not_bring_the_version_is_an_error(servers: Servers) -> None:
    reload = {"type": "command", "command": ["true", "{checkpoint}", "{name}"], "seconds": 0.3}
    with pytest.raises(EngineError, match=r"does not serve round-002-fff 0\.3 s after engine\.reload\.command"):
        open_engine(servers(), served=FULL, reload=reload)

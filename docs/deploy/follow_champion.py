"""Run a command whenever a model has a new champion: for servers that load models on request, such as vLLM.

    python follow_champion.py NAME --root mlruns -- ./restart-behind-the-proxy.sh {path}
    python follow_champion.py NAME --adapter -- curl -fsS -H 'Content-Type: application/json' \
        -d '{"lora_name": "NAME-{version}", "lora_path": "{path}"}' localhost:8000/v1/load_lora_adapter

`{path}` is the champion's verified folder on this machine, `{version}` its number. A command that fails is run again at
the next check, so it must be repeatable.

For adapters start vLLM with `--enable-lora --max-lora-rank RANK` and `VLLM_ALLOW_RUNTIME_LORA_UPDATING=True`. Each
version gets a name of its own, because vLLM's prefix cache identifies adapters by name; clients take the newest of
`/v1/models`, and the old name works until `/v1/unload_lora_adapter`. Full weights cannot be exchanged in a
running `vllm serve`: start a second one on another port, wait for its `/health`, turn the proxy, stop the first.
"""

from __future__ import annotations

import argparse
import logging
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from itertools import repeat
from pathlib import Path

from svd_loop.errors import SvdError
from svd_loop.promotion.lookup import (
    existing_registry,
    find_version,
    local_folder,
    registry_errors,
    servable_folder,
)

log = logging.getLogger("follow_champion")
Look = Callable[[], tuple[int, Callable[[], Path]]]


def champion(name: str, uri: str | None, root: Path, *, adapter: bool = False) -> tuple[int, Callable[[], Path]]:
    """The champion's number, and how to get its folder, which is worth doing for a new one only."""
    with registry_errors():
        registry = existing_registry(uri, root)
        version = find_version(registry, f"{name}@champion")

    def folder() -> Path:
        own = local_folder(registry, version, root)
        return (own if adapter else servable_folder(own, root / "models" / name)).resolve()

    return version.number, folder


def follow(look: Look, command: Sequence[str], waits: Iterable[float]) -> None:
    """Check for a new champion, run `command` if there is one, wait; ends when there are no more `waits`."""
    served = 0
    for seconds in waits:
        try:
            number, folder = look()
            if number != served:
                values = {"{path}": str(folder()), "{version}": str(number)}
                subprocess.run([_filled(part, values) for part in command], check=True)
                served = number
        except (SvdError, OSError, subprocess.CalledProcessError) as error:
            log.warning("trying again: %s", error)
        time.sleep(seconds)


def _filled(part: str, values: dict[str, str]) -> str:
    for name, value in values.items():
        part = part.replace(name, value)
    return part


def main() -> None:
    """Follow until stopped."""
    parser = argparse.ArgumentParser(description="Run a command whenever a model has a new champion.")
    parser.add_argument("name")
    parser.add_argument("--root", type=Path, default=Path("mlruns"))
    parser.add_argument("--uri", help="MLflow URI; without it the store below --root")
    parser.add_argument("--adapter", action="store_true", help="the adapter itself, not merged")
    parser.add_argument("--every", type=float, default=30.0, help="seconds between two looks")
    parser.add_argument("command", nargs="+")
    given = parser.parse_args()
    follow(
        lambda: champion(given.name, given.uri, given.root, adapter=given.adapter), given.command, repeat(given.every)
    )


if __name__ == "__main__":
    main()

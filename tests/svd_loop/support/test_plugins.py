"""Names of variants: built in, installed, unknown, broken, twice."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from svd_loop.config import load_config, parse_config
from svd_loop.config.base import Section
from svd_loop.config.domains import DOMAINS
from svd_loop.config.engines import ENGINES, EngineVariant
from svd_loop.config.stages import STAGES
from svd_loop.config.tracking import TRACKERS
from svd_loop.config.update import UPDATES
from svd_loop.errors import ConfigError
from svd_loop.support.plugins import Seam, Variant

ROOT = Path(__file__).parents[3]
NANO = ROOT / "configs" / "nano.yaml"
SEAMS = [DOMAINS, STAGES, ENGINES, UPDATES, TRACKERS]

MODULE = """
from typing import Literal
from svd_loop.config.engines import EngineSection, EngineVariant
from svd_loop.support.plugins import Variant

class Mine(EngineSection):
    type: Literal["mine"] = "mine"
    volume: int = 3

ROW = EngineVariant(Mine, "plugged:absent")
BARE = Variant(Mine, "plugged:absent")
"""


def install(folder: Path, package: str, points: str, module: str = "") -> None:
    """What an installer leaves behind, as far as entry points are concerned; tests/plugin installs a real package."""
    info = folder / f"{package}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[svd_loop.engines]\n{points}\n")
    if module:
        (folder / "plugged.py").write_text(module)


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(ENGINES, "_loaded", {})
    monkeypatch.delitem(sys.modules, "plugged", raising=False)
    return tmp_path


@pytest.mark.parametrize("seam", SEAMS, ids=lambda seam: seam.noun)
def test_every_built_in_row_can_be_built(seam: Seam[Variant]) -> None:
    for name, row in seam.built_in.items():
        assert issubclass(row.section, Section)
        assert callable(seam.builder(name))
        if isinstance(row, EngineVariant) and row.check is not None:
            assert callable(seam.load(name, row.check))


def test_an_unknown_name_lists_the_built_in_and_the_installed_ones(installed: Path) -> None:
    install(installed, "loud", "mine = plugged:ROW", MODULE)
    with pytest.raises(
        ConfigError, match=r"engine\.type: no engine is called 'warp'; known: mine \(loud 1\.0\), ray, scripted"
    ):
        load_config(NANO, ["engine={type: warp}"])
    assert "plugged" not in sys.modules  # listing names loads nothing


def test_an_installed_section_is_validated_written_back_and_found_again(installed: Path) -> None:
    install(installed, "loud", "mine = plugged:ROW", MODULE)
    config = load_config(NANO, ["engine={type: mine, volume: 5}"])
    plain = config.model_dump(mode="json")
    assert plain["engine"] == {"type": "mine", "volume": 5, "chunk_size": 2048, "chunk_seconds": None}
    assert parse_config(plain) == config
    with pytest.raises(ConfigError, match=r"engine\.mine\.volume: Input should be a valid integer"):
        load_config(NANO, ["engine={type: mine, volume: much}"])
    with pytest.raises(ConfigError, match=r"engine\.mine\.volme: unknown key; did you mean volume\?"):
        load_config(NANO, ["engine={type: mine, volme: 5}"])


@pytest.mark.parametrize(
    ("points", "module", "complaint"),
    [
        ("mine = plugged:ROW", "1 / 0", "plugged:ROW cannot be imported: ZeroDivisionError"),
        ("mine = plugged:NONE", MODULE, "plugged:NONE cannot be imported: AttributeError"),
        ("mine = plugged:BARE", MODULE, "must be a EngineVariant"),
        ("other = plugged:ROW", MODULE, "its section has the type 'mine'"),
    ],
)
def test_a_broken_plug_in_is_one_message_that_names_its_package(
    installed: Path, points: str, module: str, complaint: str
) -> None:
    install(installed, "loud", points, module)
    name = points.partition(" ")[0]
    with pytest.raises(ConfigError, match=f"the engine '{name}' of the package loud 1.0 is broken: .*{complaint}"):
        load_config(NANO, [f"engine={{type: {name}}}"])


def test_a_builder_that_is_not_there_names_the_package(installed: Path) -> None:
    install(installed, "loud", "mine = plugged:ROW", MODULE)
    with pytest.raises(ConfigError, match=r"loud 1\.0 is broken: plugged:absent cannot be imported"):
        ENGINES.builder("mine")


def test_two_packages_of_one_name_are_both_named(installed: Path) -> None:
    install(installed, "loud", "mine = plugged:ROW", MODULE)
    install(installed, "louder", "mine = plugged:ROW")
    with pytest.raises(ConfigError, match=r"'mine' is provided by loud 1\.0 and louder 1\.0; uninstall all but one"):
        ENGINES.find("mine")


def test_a_built_in_configuration_loads_no_plug_in_and_nothing_heavy(tmp_path: Path) -> None:
    install(tmp_path, "loud", "transformers = plugged:ROW\nmine = plugged:ROW", "raise SystemExit('loaded')")
    program = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from pathlib import Path; "
        f"from svd_loop.config import load_config; print(load_config(Path({str(NANO)!r})).engine.type, "
        "[m for m in ('torch', 'transformers', 'trl', 'mlflow', 'plugged') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == "transformers []\n"

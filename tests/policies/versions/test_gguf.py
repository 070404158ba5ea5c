"""GGUF files, written and read for real."""

from __future__ import annotations

from pathlib import Path

import pytest

from policies.versions.checkpoints import load_checkpoint
from policies.versions.gguf import is_gguf
from policies.versions.inspection import usable_checkpoint
from svd_loop.errors import ConfigError, ModelError
from svd_loop.nano import NANO_CHECKPOINT

pytest.importorskip("gguf", reason="gguf is not installed: pip install gguf")


def test_a_file_becomes_the_checkpoint_that_it_was_made_from(tmp_path: Path) -> None:
    import torch

    from tests.policies.versions.gguf_files import write_gguf

    path = write_gguf(NANO_CHECKPOINT, tmp_path / "nano.gguf")
    folder = usable_checkpoint(path, tmp_path / "store")
    made, original = load_checkpoint(folder, "float32"), load_checkpoint(NANO_CHECKPOINT, "float32")
    ids = torch.arange(5, 25)[None]
    assert torch.equal(made(ids).logits, original(ids).logits)
    assert made.config.tie_word_embeddings and made.lm_head.weight is made.model.embed_tokens.weight
    assert (folder / "tokenizer.json").exists() and (folder / "chat_template.jinja").exists()
    before = (folder / "model.safetensors").stat().st_mtime_ns
    assert usable_checkpoint(path, tmp_path / "store") == folder  # once is enough
    assert usable_checkpoint(tmp_path, tmp_path / "store") == folder  # the folder that the file lies in
    assert (folder / "model.safetensors").stat().st_mtime_ns == before


def test_blocks_of_eight_bits_are_unpacked(tmp_path: Path) -> None:
    import torch

    from tests.policies.versions.gguf_files import write_gguf

    path = write_gguf(NANO_CHECKPOINT, tmp_path / "nano.gguf", quantised=True)
    made = load_checkpoint(usable_checkpoint(path, tmp_path / "store"), "float32")
    ids = torch.arange(5, 25)[None]
    difference = made(ids).logits - load_checkpoint(NANO_CHECKPOINT, "float32")(ids).logits
    assert 0 < float(difference.abs().max()) < 0.5


def test_damaged_files_are_one_error(tmp_path: Path) -> None:
    from tests.policies.versions.gguf_files import write_gguf

    path = write_gguf(NANO_CHECKPOINT, tmp_path / "nano.gguf")
    for size in (4, 100, 50_000):
        cut = tmp_path / f"cut-{size}.gguf"
        cut.write_bytes(path.read_bytes()[:size])
        with pytest.raises(ModelError, match=f"{cut} cannot be read as GGUF"):
            usable_checkpoint(cut, tmp_path / "store")
    assert not list((tmp_path / "store").iterdir())
    with pytest.raises(ConfigError, match="several GGUF files"):
        usable_checkpoint(tmp_path, tmp_path / "store")


def test_only_the_first_bytes_tell(tmp_path: Path) -> None:
    (tmp_path / "a.gguf").write_text("no")
    assert not is_gguf(tmp_path / "a.gguf") and not is_gguf(tmp_path / "none") and not is_gguf(tmp_path)

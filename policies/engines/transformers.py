"""The `transformers` engine: a decode loop over any causal language model, on CPU or GPU.

`model.generate` cannot give rows seeds of their own, decodes finished rows to the end and holds a batch until its
longest row is done; this loop does none of that (`policies.engines.decoding.pool`). Left out: beam search, penalties,
speculative decoding, recurrent and hybrid architectures (use the vllm engine for those).
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from contextlib import closing
from typing import Any

import torch

from policies.engines.decoding.budget import GIB, prefix_memory, row_memory, rows_that_fit
from policies.engines.decoding.kv_cache import ATTENTION
from policies.engines.decoding.pool import DecodingPool
from policies.engines.decoding.pool_stream import PoolStream
from policies.engines.decoding.prefill import PromptReader
from policies.engines.decoding.prompt_blocks import PromptBlocks
from policies.engines.serving import PrefixCache
from policies.engines.vllm_child import prompt_logprobs
from policies.text.chat import ChatCodec
from policies.versions.checkpoints import load_model
from policies.versions.stored import StoredVersion
from svd_loop.config.engines import TransformersEngineSection
from svd_loop.config.sections import ModelSection
from svd_loop.contracts import Generation, GenerationRequest
from svd_loop.errors import EngineError, ModelError
from svd_loop.support.memory import free_memory
from svd_loop.support.torch_memory import release_gpu_memory

_log = logging.getLogger(__name__)

_KNOWN_LAYERS = {"full_attention", "sliding_attention"}


class TransformersEngine:
    """`svd_loop.contracts.Engine` over a loaded model.

    A row's tokens depend on the weights, its prompt, its sampling parameters and its seed; batch size and order
    change them only where two tokens are equally likely up to the rounding of the logits.

    Args:
        model: a causal language model of transformers. The engine owns it from here on: it is set to evaluation
            and its attention implementation may be exchanged for an equivalent one.
        stop_ids: tokens that end an answer; at least one.
        pad_id: an id to fill short prompts with. It is masked and may equal any other.
        batch_size: rows decoded together. Halved, with a warning, whenever memory runs out.
        threads: CPU threads of torch, for the whole process; 0 leaves them as they are.
        prefix_bytes: memory for keys and values of prompts, kept for later ones that begin alike
            (`policies.engines.decoding.prompt_blocks`); 0 keeps none. Models with sliding windows keep none.
        row_bytes: memory for keys and values of the rows decoded together, which are fewer than `batch_size` where the
            longest of them could take more; None sets no limit.

    Attributes:
        prefix_cache: prompt tokens of all requests, and how many of them were not read again: those of equal prompts in
            one batch, and those of known prefixes.

    Raises:
        ModelError: the architecture keeps a state other than keys and values, or there is no stop token.
    """

    def __init__(
        self,
        model: Any,
        *,
        stop_ids: Collection[int],
        pad_id: int = 0,
        batch_size: int = 512,
        threads: int = 0,
        prefix_bytes: int = 0,
        row_bytes: int | None = None,
    ) -> None:
        if not stop_ids:
            raise ModelError("no stop token is known: set eos_token_id in the checkpoint's generation_config.json")
        if threads:
            torch.set_num_threads(threads)
        config = model.config.get_text_config()
        layers = set(getattr(config, "layer_types", None) or ["full_attention"])
        if unknown := sorted(layers - _KNOWN_LAYERS):
            raise ModelError(
                f"model.path: {config.model_type} has {', '.join(unknown)} layers, which engine.type: "
                "transformers cannot decode in rows that come and go; use engine.type: vllm"
            )
        window = getattr(config, "sliding_window", None) if "layer_types" not in config.to_dict() else None
        self._sliding = "sliding_attention" in layers or window is not None
        if config._attn_implementation == "sdpa":
            model.set_attn_implementation(ATTENTION)
        self._model: Any | None = model.eval()
        self._stop_ids = torch.tensor(sorted(stop_ids), dtype=torch.int64, device=model.device)
        self._pad_id = pad_id
        self._batch_size = batch_size
        self._row_bytes, self._token_bytes = row_bytes, _token_bytes(config, model.dtype)
        self._fewest = batch_size
        self.prefix_cache = PrefixCache()
        self._blocks = PromptBlocks(prefix_bytes) if prefix_bytes and not self._sliding else None

    @property
    def batch_size(self) -> int:
        """Rows decoded together at present; smaller than asked for after memory ran out."""
        return self._batch_size

    def generate(self, requests: Sequence[GenerationRequest], *, label: str = "") -> list[Generation]:
        """Answer all requests, in their order.

        Args:
            requests: prompts (not empty), sampling parameters and seeds.
            label: names the work on the progress line; empty shows none.

        Raises:
            EngineError: the engine is closed, a prompt is empty, the logits are not finite, or memory runs out
                with a single row.
        """
        with closing(self.stream(label=label, total=len(requests))) as stream:
            stream.put(list(enumerate(requests)))
            done: dict[int, Generation] = {}
            while finished := stream.take():
                done.update(finished)
        return [done[index] for index in range(len(requests))]

    def stream(self, *, label: str = "", total: int = 0) -> PoolStream:
        """Requests in flight; one stream at a time.

        Args:
            label: names the work on the progress line; empty shows none.
            total: requests to expect; 0 if not known.

        Raises:
            EngineError: the engine is closed.
        """
        if self._model is None:
            raise EngineError("the engine is closed")
        steps = (self._new_pool, self._batch_size, self._announce, self._shrink, self._fitting)
        return PoolStream(*steps, label=label, total=total)

    def logprobs(self, prompts: Sequence[Sequence[int]]) -> list[list[float]]:
        """Log probability of each prompt's tokens from the second on, in nats; prompts have at least two."""
        if self._model is None:
            raise EngineError("the engine is closed")
        return prompt_logprobs(self._model, prompts)

    def close(self) -> None:
        """Release the model and its memory, and log how many prompt tokens had been read before."""
        if self._blocks is not None and self.prefix_cache.cached_tokens:
            _log.info(
                "%s of %s prompt tokens were not read again",
                f"{self.prefix_cache.cached_tokens:,}",
                f"{self.prefix_cache.prompt_tokens:,}",
            )
        self._model = self._blocks = None
        release_gpu_memory()

    def _new_pool(self) -> DecodingPool:
        reader = PromptReader(self._model, self._pad_id, self._stop_ids.device, self._blocks, self._count)
        return DecodingPool(self._model, self._stop_ids, reader, sliding=self._sliding)

    def _announce(self, prompts: Sequence[tuple[int, ...]]) -> None:
        if self._blocks is not None:
            self._blocks.begin_wave(prompts)

    def _count(self, asked: int, known: int) -> None:
        self.prefix_cache.prompt_tokens += asked
        self.prefix_cache.cached_tokens += known

    def _fitting(self, rows: int, tokens: int) -> int:
        """The rows, at least one, that fit the memory for them when the longest takes `tokens` tokens."""
        if self._row_bytes is None or tokens == 0:
            return rows
        fitting = max(1, rows_that_fit(self._row_bytes, self._token_bytes, tokens))
        if fitting >= rows:
            return rows
        if fitting < self._fewest:
            self._fewest = fitting
            _log.warning(
                "engine.batch_size: %d rows of up to %s tokens would take more than the %.1f GiB there are for their "
                "keys and values, so %d are decoded together; lower max_tokens of the role, or set engine.batch_size "
                "to what fits",
                rows,
                f"{tokens:,}",
                self._row_bytes / GIB,
                fitting,
            )
        return fitting

    def _shrink(self) -> int:
        """Halve the batch after memory ran out; returns its size."""
        self._batch_size //= 2
        if self._blocks is not None:
            self._blocks.clear()
        release_gpu_memory()
        _log.warning(
            "out of memory while generating: continuing with engine.batch_size %d; finished rows are kept. "
            "Set it in the configuration to avoid the repeated work",
            self._batch_size,
        )
        return self._batch_size


def open_engine(
    stored: StoredVersion, codec: ChatCodec, settings: TransformersEngineSection, model: ModelSection
) -> TransformersEngine:
    """Open the engine on a stored version.

    Raises:
        ModelError: the checkpoint or the device cannot be used.
    """
    loaded = load_model(stored, dtype=model.dtype, device=model.device)
    on_gpu = loaded.device.type == "cuda"
    free = torch.cuda.mem_get_info()[0] if on_gpu else free_memory()
    # Whether there are sliding windows is left to the engine, which knows its model.
    prefixes = prefix_memory(settings, free, hidden=loaded.config.get_text_config().hidden_size, sliding=False)
    return TransformersEngine(
        loaded,
        stop_ids=codec.stop_ids,
        pad_id=codec.pad_id,
        batch_size=settings.batch_size,
        threads=settings.threads,
        prefix_bytes=prefixes,
        row_bytes=None if on_gpu else row_memory(free, prefixes),
    )


def _token_bytes(config: Any, dtype: torch.dtype) -> int:
    """Bytes of the keys and values of a token in all layers; sliding windows keep them all, too."""
    heads = config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // heads
    key_value = (getattr(config, "num_key_value_heads", None) or heads) * size
    return 2 * int(config.num_hidden_layers) * int(key_value) * dtype.itemsize

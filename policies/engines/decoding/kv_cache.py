"""A key-value cache whose rows can be replaced, and the attention step that reads it without copying.

`DynamicCache` concatenates every layer's whole cache at every step, and the stock attention repeats it once more
for grouped heads; on a small model the two copies cost more than the arithmetic. Here a step writes one column
into reserved space, and the query heads of a group are computed as several queries of one head.

Rows are aligned to the right: the newest token of every row lies in the same column, older columns of short rows
are padding. Sliding windows need no special cache (the mask applies them), but old columns are kept.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import AttentionInterface
from transformers.cache_utils import Cache, DynamicLayer
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

ATTENTION = "svd_grouped_decode"
"""Name under which `grouped_decode_attention` is registered with transformers."""


class ReservedLayer(DynamicLayer):
    """One layer's keys and values, each (rows, heads, reserved columns, head size), filled up to `length`."""

    def __init__(self, keys: torch.Tensor, values: torch.Tensor, length: int) -> None:
        super().__init__()
        self.dtype, self.device = keys.dtype, keys.device
        self.keys: torch.Tensor = keys
        self.values: torch.Tensor = values
        self.length = length
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write the new columns and return everything filled so far, as views."""
        end = self.length + key_states.shape[-2]
        self.keys[:, :, self.length : end] = key_states
        self.values[:, :, self.length : end] = value_states
        self.length = end
        return self.keys[:, :, :end], self.values[:, :, :end]

    def get_seq_length(self) -> int:
        """Filled columns."""
        return self.length

    def rebuilt(self, keep: torch.Tensor, rows: int, drop: int, shift: int, columns: int) -> ReservedLayer:
        """Copy the rows at `keep` to a new layer with `rows` rows and `columns` reserved columns.

        Args:
            keep: (K,) int64 indices of the rows to carry over; the remaining `rows - K` rows are zero for now.
            rows: rows of the new layer.
            drop: columns to leave out on the left (padding of all kept rows).
            shift: empty columns to put before the copied ones, when a new row is longer.
            columns: columns to reserve.
        """
        length = self.length - drop + shift

        def move(source: torch.Tensor) -> torch.Tensor:
            target = source.new_empty((rows, source.shape[1], columns, source.shape[3]))
            target[: len(keep), :, shift:length] = source[keep, :, drop : self.length]
            # Padding must be finite: a masked column still enters a product, and 0 x NaN is NaN.
            target[: len(keep), :, :shift] = 0
            target[len(keep) :, :, :length] = 0
            return target

        return ReservedLayer(move(self.keys), move(self.values), length)


class RowCache(Cache):
    """All layers of a model as one cache, whose rows can be removed and added."""

    def __init__(self, layers: list[ReservedLayer]) -> None:
        super().__init__(layers=list(layers))
        self._reserved = layers

    @classmethod
    def empty_like(cls, source: Cache) -> RowCache:
        """A cache without rows and columns, with the heads, sizes, type and device of `source`."""
        parts: list[Any] = list(source.layers)
        return cls([ReservedLayer(x.keys[:0, :, :0].clone(), x.values[:0, :, :0].clone(), 0) for x in parts])

    @property
    def length(self) -> int:
        """Filled columns."""
        return self._reserved[0].length

    @property
    def columns(self) -> int:
        """Reserved columns."""
        return int(self._reserved[0].keys.shape[-2])

    def rebuild(self, keep: torch.Tensor, *, rows: int, drop: int, shift: int, columns: int) -> None:
        """Apply `ReservedLayer.rebuilt` layer by layer, so that at most one layer is held twice."""
        for index, layer in enumerate(self._reserved):
            self._reserved[index] = self.layers[index] = layer.rebuilt(keep, rows, drop, shift, columns)

    def fill(self, source: Cache, source_rows: torch.Tensor, rows: torch.Tensor) -> None:
        """Copy rows of a prefilled cache into `rows`, aligned to the right.

        Other columns of these rows keep their contents; the caller masks them.

        Args:
            source: a cache with at most `length` columns.
            source_rows: (R,) int64; a row named several times is copied several times.
            rows: (R,) int64, where the copies go.
        """
        sources: list[Any] = list(source.layers)
        for mine, theirs in zip(self._reserved, sources, strict=True):
            start = mine.length - theirs.keys.shape[-2]
            mine.keys[rows, :, start : mine.length] = theirs.keys[source_rows]
            mine.values[rows, :, start : mine.length] = theirs.values[source_rows]


def grouped_decode_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Scaled dot-product attention of one new token, without repeating keys and values for grouped heads.

    More than one query per row is passed to the stock implementation.

    Args:
        module: the attention module (for the stock implementation).
        query: (B, H, Q, D).
        key: (B, G, L, D), G dividing H.
        value: (B, G, L, D).
        attention_mask: (B or 1, 1, Q, L), boolean (true: attend) or additive, or None.
        dropout: ignored, because this path is for inference.
        scaling: factor on the products; None is 1 / sqrt(D).
        kwargs: passed on to the stock implementation.

    Returns:
        (B, Q, H, D) and None (no weights).
    """
    batch, heads, queries, size = query.shape
    if queries != 1 or kwargs.get("position_bias") is not None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
    groups = key.shape[1]
    factor = size**-0.5 if scaling is None else scaling
    grouped = query.reshape(batch, groups, heads // groups, size)
    if query.device.type == "cpu":
        # Plain products: torch's fused CPU kernel is slower for one query (measured).
        scores = torch.matmul(grouped * factor, key.transpose(2, 3))
        if attention_mask is not None and attention_mask.dtype == torch.bool:
            scores.masked_fill_(~attention_mask, torch.finfo(scores.dtype).min)
        elif attention_mask is not None:
            scores += attention_mask
        output = torch.matmul(scores.softmax(dim=-1), value)
    else:
        output = torch.nn.functional.scaled_dot_product_attention(
            grouped, key, value, attn_mask=attention_mask, scale=factor
        )
    return output.reshape(batch, 1, heads, size), None


AttentionInterface.register(ATTENTION, grouped_decode_attention)
AttentionMaskInterface.register(ATTENTION, sdpa_mask)

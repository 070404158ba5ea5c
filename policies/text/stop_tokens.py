"""Find the tokens that end an answer, from all files of a checkpoint.

Checkpoints say it in three places that need not agree: `eos_token_id` of the generation configuration (or, without
one, of the model's), the tokenizer's end-of-text token, and the token its chat template puts behind an answer. The
first two often name the end of a *document* (Llama-3's `<|end_of_text|>`, Qwen3's `<|endoftext|>`), the third is the
end of a *turn* (`<|eot_id|>`, `<|im_end|>`, Gemma's `<end_of_turn>`). An answer may end in any of them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from svd_loop.support.bounded import OverrunError, run_bounded

TEMPLATE_SECONDS = 20.0
"""Time limit in seconds; a template normally takes milliseconds."""
_ANSWER = "7f3a"
"""Text that no template contains."""


@dataclass(frozen=True, slots=True)
class StopTokens:
    """`ids` end an answer; `turn_end` is the one that an answer to this checkpoint's prompts usually ends in."""

    ids: frozenset[int]
    turn_end: int | None


def find_stop_tokens(checkpoint: Path | str, tokenizer: Any, *, plain: bool) -> StopTokens:
    """Every stop token of a checkpoint; `plain` asks without the chat template."""
    document = None if tokenizer.eos_token_id is None else int(tokenizer.eos_token_id)
    turn = None if plain else _behind_an_answer(tokenizer)
    ids = _configured(checkpoint) | {token for token in (document, turn) if token is not None}
    return StopTokens(frozenset(ids), document if turn is None else turn)


def _configured(checkpoint: Path | str) -> set[int]:
    """`eos_token_id`, a number or a list, of the generation configuration, or else of the model's."""
    from transformers import GenerationConfig, PretrainedConfig

    try:
        stops = GenerationConfig.from_pretrained(str(checkpoint)).eos_token_id
    except (OSError, ValueError, json.JSONDecodeError):
        try:
            config, _ = PretrainedConfig.get_config_dict(str(checkpoint))
        except (OSError, ValueError):
            return set()
        stops = config.get("eos_token_id", config.get("text_config", {}).get("eos_token_id"))
    return set() if stops is None else {stops} if isinstance(stops, int) else set(stops)


def _behind_an_answer(tokenizer: Any) -> int | None:
    """The added token that the chat template puts behind an answer, special or not; None if there is none.

    Raises:
        OverrunError: the template does not end.
    """
    turns = [{"role": "user", "content": "u"}, {"role": "assistant", "content": _ANSWER}]
    try:
        text: str = run_bounded(lambda: tokenizer.apply_chat_template(turns, tokenize=False), TEMPLATE_SECONDS)
    except OverrunError:
        raise
    except Exception:  # a template that refuses an answer does not show how one ends
        return None
    tail = tokenizer(text.rpartition(_ANSWER)[2].lstrip(), add_special_tokens=False)["input_ids"]
    return int(tail[0]) if tail and tail[0] in tokenizer.added_tokens_decoder else None

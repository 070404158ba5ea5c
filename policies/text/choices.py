"""Calls whose answer is chosen, not written: from texts to the one token in which they differ.

A tokenizer may cut `[[Y]]` into one token or several. What all choices share at their beginning is put behind the
prompt, as if the model had begun its answer so, and their next tokens are compared.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from policies.text.chat import ChatCodec
from svd_loop.contracts import AgentCall, ChoiceEngine, ChoiceRequest, Engine, FinishReason, PolicyVersion, Reply
from svd_loop.errors import ConfigError, EngineError


def choose_replies(
    engine: Engine, codec: ChatCodec, version: PolicyVersion, calls: Sequence[AgentCall], *, label: str, limit: int
) -> list[Reply]:
    """Replies to calls with `choices`, in their order; no token is generated.

    Args:
        engine: who compares.
        codec: the checkpoint's tokenizer.
        version: which weights these are.
        calls: all of them with choices.
        label: names the work on the progress line.
        limit: longest prompt, in tokens.

    Raises:
        ConfigError: the engine cannot compare, or the choices begin with the same token ids throughout.
        EngineError: a prompt is longer than `limit`, or answers are missing.
    """
    if not isinstance(engine, ChoiceEngine):
        raise ConfigError(
            "cascade.prefilter: this engine cannot tell how likely a verdict is; use engine.type: "
            "transformers or vllm, or remove cascade.prefilter"
        )
    tokens = {choices: choice_tokens(codec, choices) for choices in {call.choices for call in calls}}
    prompts = codec.encode([call.messages for call in calls])
    requests = [
        ChoiceRequest((*prompt, *tokens[call.choices][0]), tokens[call.choices][1])
        for call, prompt in zip(calls, prompts, strict=True)
    ]
    if too_long := [r for r in requests if len(r.prompt_ids) >= limit]:
        raise EngineError(
            f"a prompt of {len(too_long[0].prompt_ids)} tokens leaves no room for a verdict within "
            f"model.max_context: {limit}"
        )
    answers = engine.choice_logprobs(requests, label=label)
    if len(answers) != len(requests):
        raise EngineError(f"the engine returned {len(answers)} answers to {len(requests)} requests")
    return [
        Reply(
            call.id,
            json.dumps([round(value, 6) for value in answer]),
            FinishReason.STOP,
            version,
            prompt_ids=request.prompt_ids,
            prompt_tokens=len(request.prompt_ids),
        )
        for call, request, answer in zip(calls, requests, answers, strict=True)
    ]


def choice_tokens(codec: ChatCodec, choices: Sequence[str]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The token ids all choices begin with, and the next one of each.

    Raises:
        ConfigError: two choices do not differ in their next token: one is a beginning of the other, or they are equal.
    """
    encoded: list[list[int]] = codec.tokenizer(list(choices), add_special_tokens=False)["input_ids"]
    shared = 0
    while all(len(ids) > shared and ids[shared] == encoded[0][shared] for ids in encoded):
        shared += 1
    following = [ids[shared] for ids in encoded if len(ids) > shared]
    if len(set(following)) != len(choices):
        raise ConfigError(f"cascade.prefilter: this tokenizer cannot tell {' from '.join(choices)} by one token")
    return tuple(encoded[0][:shared]), tuple(following)

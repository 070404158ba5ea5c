"""Content keys, as a property: two questions share a key exactly when nothing about them differs."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from policies.policy import ModelPolicy
from svd_loop.contracts import BUILT_IN_ROLES, AgentCall, CallId, Message, PolicyVersion, Sampling

NAMES = st.sampled_from(["", "a", "b", "ab", '","', "\x1f", "1"])  # what could run together with its neighbours
NUMBERS = st.integers(0, 3)
CALL_IDS = st.builds(CallId, NAMES, NUMBERS, st.sampled_from(BUILT_IN_ROLES), NAMES, NUMBERS, NAMES, NUMBERS, NUMBERS)
MESSAGES = st.lists(st.builds(Message, st.sampled_from(["system", "user"]), NAMES), max_size=3).map(tuple)
CALLS = st.builds(AgentCall, CALL_IDS, MESSAGES, NAMES)
SAMPLINGS = st.builds(
    Sampling,
    st.integers(1, 3),
    st.sampled_from([0.0, 0.5, 1.0]),
    st.sampled_from([0.5, 1.0]),
    st.integers(0, 2),
    st.sampled_from([0.0, 0.1]),
    st.booleans(),
    st.sampled_from([None, 1, 2]),
)
SETTINGS = st.fixed_dictionaries(
    {
        "fingerprint": NAMES,
        "sampling": SAMPLINGS,
        "job_seed": NUMBERS,
        "max_context": st.integers(8, 9),
        "codec": NAMES,
    }
)


def key(call: AgentCall, settings: dict[str, Any]) -> str:
    engine: Any = None  # a key is computed before anything is asked
    codec: Any = SimpleNamespace(identity=lambda thinking: f"{settings['codec']}/{thinking}")
    version = PolicyVersion(0, settings["fingerprint"])
    samplings = dict.fromkeys(BUILT_IN_ROLES, settings["sampling"])
    return ModelPolicy(
        engine, codec, version, samplings, job_seed=settings["job_seed"], max_context=settings["max_context"]
    ).key(call)


def answered_by(call: AgentCall, settings: dict[str, Any]) -> tuple[object, ...]:
    """All that decides an answer; a repeat of a vote gets twice the tokens."""
    sampling = settings["sampling"]
    tokens = sampling.max_tokens * (2 if call.id.attempt else 1)
    rest = [settings[name] for name in sorted(settings) if name != "sampling"]
    return (call, replace(sampling, max_tokens=tokens), *rest)


@given(CALLS, CALLS, SETTINGS, SETTINGS)
def test_keys_are_equal_exactly_when_the_questions_are(
    one: AgentCall, other: AgentCall, settings: dict[str, Any], others: dict[str, Any]
) -> None:
    for call, these in ((one, others), (other, settings), (other, others)):
        same = answered_by(one, settings) == answered_by(call, these)
        assert (key(one, settings) == key(call, these)) == same


@given(CALLS, SETTINGS, st.sampled_from(["purpose", "round", "prompt_id", "candidate", "stage", "vote", "attempt"]))
def test_every_field_of_a_call_counts(call: AgentCall, settings: dict[str, Any], field: str) -> None:
    value = getattr(call.id, field)
    changed = replace(call.id, **{field: value + 1 if isinstance(value, int) else value + "x"})
    assert key(call, settings) != key(replace(call, id=changed), settings)
    assert changed.seed(settings["job_seed"]) != call.id.seed(settings["job_seed"])


@given(CALLS, SETTINGS)
def test_a_key_is_the_hash_of_one_json_list_as_ledgers_have_it(call: AgentCall, settings: dict[str, Any]) -> None:
    sampling = settings["sampling"]
    limits = [] if sampling.max_answer is None else [sampling.max_answer]
    tokens = sampling.max_tokens * (2 if call.id.attempt else 1)
    at = call.id
    parts = [
        settings["fingerprint"],
        call.template_version,
        [[message.role, message.content] for message in call.messages],
        [tokens, sampling.temperature, sampling.top_p, sampling.top_k, sampling.min_p, *limits],
        settings["max_context"],
        f"{settings['codec']}/{sampling.thinking}",
        at.seed(settings["job_seed"]),
        [at.purpose, at.round, at.role, at.prompt_id, at.candidate, at.stage, at.vote, at.attempt],
        *([list(call.choices)] if call.choices else []),
    ]
    assert key(call, settings) == hashlib.sha256(json.dumps(parts).encode()).hexdigest()

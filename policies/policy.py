"""The policy: one set of weights that answers in every role (`svd_loop.contracts.Policy`).

It combines an engine (tokens), a chat codec (text) and the sampling parameters of the roles, and gives every call a
seed and a key that depend only on the call, the weights and the settings.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TextIO

from policies.streaming import UNANSWERED, PolicyStream
from policies.text.chat import ChatCodec
from svd_loop.contracts import (
    AgentCall,
    CallId,
    CallStream,
    Engine,
    FinishReason,
    Generation,
    GenerationRequest,
    Policy,
    PolicyVersion,
    Reply,
    Role,
    RoleName,
    Sampling,
)
from svd_loop.errors import ConfigError, DataError, EngineError
from svd_loop.support.streams import WatchedStream, WaveStream, stream_of
from svd_loop.support.wrapping import PolicyWrapper

_log = logging.getLogger(__name__)

HELD_OUT = ("development", "test", "choice")
"""Purposes under which held-out problems are solved."""

_TAIL = 65_536


class ModelPolicy:
    """`svd_loop.contracts.Policy` over an engine.

    Args:
        engine: runs the weights; closed with the policy.
        codec: the checkpoint's tokenizer and template.
        version: which weights these are.
        samplings: sampling parameters by role.
        job_seed: the job's seed.
        max_context: longest prompt plus answer, in tokens.
        held_out: how held-out problems are solved (`evaluation.sampling`); None is like the rest.
    """

    def __init__(
        self,
        engine: Engine,
        codec: ChatCodec,
        version: PolicyVersion,
        samplings: Mapping[RoleName, Sampling],
        *,
        job_seed: int,
        max_context: int,
        held_out: Sampling | None = None,
    ) -> None:
        self._engine = engine
        self._codec = codec
        self._version = version
        self._samplings = dict(samplings)
        self._held_out = held_out
        self._job_seed = job_seed
        self._max_context = max_context

    @property
    def version(self) -> PolicyVersion:
        """The weights that answer."""
        return self._version

    def key(self, call: AgentCall) -> str:
        """SHA-256 over everything that determines the answer: weights, template, messages, sampling, seed and call."""
        sampling = self._sampling(call)
        parts = (
            self._version.fingerprint,
            call.template_version,
            [(message.role, message.content) for message in call.messages],
            _sampling_key(sampling),
            self._max_context,
            self._codec.identity(sampling.thinking),
            call.id.seed(self._job_seed),
            _call_key(call.id),
            *([list(call.choices)] if call.choices else []),
        )
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def generate(self, calls: Sequence[AgentCall]) -> list[Reply]:
        """Answer all calls, in their order.

        A judge's call that leaves no room for its answer within `max_context` (a solution that is long *and* full of
        look-alike markers, which neutralising makes longer still) gets an empty reply, cut off, and a warning:
        nothing is shortened, and the vote is invalid rather than the end of the job.

        Raises:
            DataError: a solver's prompt leaves no room for its answer; names the prompt.
            ModelError: a role is to think and the template has no switch for it, or an answer is limited to a few texts
                and the template begins every answer with a thought.
            EngineError: the engine failed or returned another number of answers than it was asked for.
        """
        if not calls:
            return []
        prompts, requests = self.requests(calls)
        answers = iter(
            self._ask([request for request in requests if request is not None], _label(calls, self._version))
        )
        generations = [UNANSWERED if request is None else next(answers) for request in requests]
        return self.replies(calls, prompts, generations)

    def stream(self) -> CallStream:
        """Calls in flight; one of whole batches if the engine has no stream. Close it before other methods are used."""
        opened = getattr(self._engine, "stream", None)
        return WaveStream(self) if opened is None else PolicyStream(self, opened(label=f"{self._version.name} answers"))

    def requests(self, calls: Sequence[AgentCall]) -> tuple[list[tuple[int, ...]], list[GenerationRequest | None]]:
        """The token ids of calls, and what the engine is asked; None for a call that does not fit the context.

        Raises:
            DataError, ModelError: as in `generate`.
        """
        prompts = self._prompts(calls)
        requests = [self._request(call, prompt) for call, prompt in zip(calls, prompts, strict=True)]
        if unasked := [call for call, request in zip(calls, requests, strict=True) if request is None]:
            _log.warning(
                "%d judge calls do not fit model.max_context: %d beside their answers and are not asked; the "
                "first is about candidate %d of prompt %s",
                len(unasked),
                self._max_context,
                unasked[0].id.candidate,
                unasked[0].id.prompt_id,
            )
        return prompts, requests

    def replies(
        self, calls: Sequence[AgentCall], prompts: Sequence[tuple[int, ...]], generations: Sequence[Generation]
    ) -> list[Reply]:
        """The replies that an engine's answers are; `UNANSWERED` for calls that were not asked."""
        texts = self._texts(calls, generations)
        return [
            Reply(
                call.id,
                text,
                self._finish(call, answer),
                self._version,
                prompt,
                answer.token_ids,
                0 if answer is UNANSWERED else len(prompt),
                len(answer.token_ids),
                answer.cached_tokens,
            )
            for call, prompt, answer, text in zip(calls, prompts, generations, texts, strict=True)
        ]

    def burst(self, prompts: Sequence[tuple[int, ...]], max_tokens: int) -> list[Generation]:
        """Generate short answers to earlier prompts, to measure the engine's speed; nothing is keyed or stored.

        Args:
            prompts: token ids, as in replies.
            max_tokens: longest answer.

        Raises:
            EngineError: the engine failed.
        """
        sampling = Sampling(max_tokens)
        return self._ask([GenerationRequest(ids, sampling, seed) for seed, ids in enumerate(prompts)], "")

    def close(self) -> None:
        """Free the engine's memory."""
        self._engine.close()

    def _prompts(self, calls: Sequence[AgentCall]) -> list[tuple[int, ...]]:
        """Token ids of each call, with or without the thinking of its role."""
        found: dict[int, tuple[int, ...]] = {}
        for thinking, places in self._by_thinking(calls).items():
            ids = self._codec.encode([calls[place].messages for place in places], thinking=thinking)
            found |= dict(zip(places, ids, strict=True))
        return [found[place] for place in range(len(calls))]

    def _texts(self, calls: Sequence[AgentCall], answers: Sequence[Generation]) -> list[str]:
        """The text of each answer."""
        found: dict[int, str] = {}
        for thinking, places in self._by_thinking(calls).items():
            texts = self._codec.decode([answers[place].token_ids for place in places], thinking=thinking)
            found |= {
                place: "" if answers[place] is UNANSWERED else text for place, text in zip(places, texts, strict=True)
            }
        return [found[place] for place in range(len(calls))]

    def _by_thinking(self, calls: Sequence[AgentCall]) -> dict[bool, list[int]]:
        """Indices of the calls whose role thinks, and of the others."""
        groups: dict[bool, list[int]] = {}
        for place, call in enumerate(calls):
            groups.setdefault(self._plain_sampling(call).thinking, []).append(place)
        return groups

    def _ask(self, requests: list[GenerationRequest], label: str) -> list[Generation]:
        if not requests:
            return []
        answers = self._engine.generate(requests, label=label)
        if len(answers) != len(requests):
            raise EngineError(f"the engine returned {len(answers)} answers to {len(requests)} requests")
        return answers

    def _finish(self, call: AgentCall, answer: Generation) -> FinishReason:
        """The finish reason; a final answer longer than the role's `max_answer` counts as truncated."""
        sampling = self._plain_sampling(call)
        if answer.finish_reason is not FinishReason.STOP or sampling.max_answer is None:
            return answer.finish_reason
        length = self._codec.answer_tokens(answer.token_ids, thinking=sampling.thinking)
        return FinishReason.LENGTH if length > sampling.max_answer else FinishReason.STOP

    def _request(self, call: AgentCall, prompt: tuple[int, ...]) -> GenerationRequest | None:
        choices = self._codec.choices(call.choices, thinking=self._plain_sampling(call).thinking)
        longest = max((len(choice.token_ids) for choice in choices), default=0)
        limit = longest or self._plain_sampling(call).max_tokens
        room = self._max_context - len(prompt)
        if room < limit and call.id.role != Role.SOLVER:
            return None
        if room < limit:
            raise DataError(
                f"prompt {call.id.prompt_id}, role {call.id.role}: {len(prompt)} tokens and an "
                f"answer of up to {limit} exceed model.max_context: {self._max_context}; raise it, lower "
                "the role's max_tokens, or remove the prompt (nothing is cut)"
            )
        sampling = self._sampling(call)
        most = longest or min(sampling.max_tokens, room)
        return GenerationRequest(prompt, replace(sampling, max_tokens=most), call.id.seed(self._job_seed), choices)

    def _sampling(self, call: AgentCall) -> Sampling:
        """The call's parameters; a repeated call may use twice the length, as far as the context allows."""
        sampling = self._plain_sampling(call)
        return replace(sampling, max_tokens=2 * sampling.max_tokens) if call.id.attempt else sampling

    def _plain_sampling(self, call: AgentCall) -> Sampling:
        """The role's parameters, or those of held-out measurement for a held-out problem."""
        if self._held_out is not None and call.id.role == Role.SOLVER and call.id.purpose in HELD_OUT:
            return self._held_out
        try:
            return self._samplings[call.id.role]
        except KeyError:
            raise ConfigError(f"no sampling parameters for the role {call.id.role}") from None


class RecordingPolicy(PolicyWrapper):
    """Passes calls on and appends every reply to a JSON Lines file for the scripted policy.

    Args:
        policy: answers the calls.
        path: file to append to; its folder must exist.

    An incomplete last line (after a kill) is removed first: its reply was not in the ledger yet and is asked again.

    Raises:
        DataError: the file cannot be opened.
    """

    def __init__(self, policy: Policy, path: Path) -> None:
        super().__init__(policy)
        try:
            _drop_cut_line(path)
            self._file: TextIO = path.open("a", encoding="utf-8")
        except OSError as error:
            raise DataError(f"{path}: replies cannot be recorded here: {error.strerror}") from None

    def generate(self, calls: Sequence[AgentCall]) -> list[Reply]:
        """Answer all calls, and write the answers before they are returned."""
        replies = super().generate(calls)
        self._write(replies)
        return replies

    def stream(self) -> CallStream:
        """Calls in flight, whose answers are written before they are returned."""
        return WatchedStream(stream_of(self._policy), self._write)

    def _write(self, replies: Sequence[Reply]) -> None:
        for reply in replies:
            line = {
                "role": reply.call.role,
                "prompt_id": reply.call.prompt_id,
                "candidate": reply.call.candidate,
                "stage": reply.call.stage,
                "vote": reply.call.vote,
                "attempt": reply.call.attempt,
                "round": reply.call.round,
                "purpose": reply.call.purpose,
                "policy_round": reply.policy.round,
                "fingerprint": reply.policy.fingerprint,
                "text": reply.text,
                "finish_reason": reply.finish_reason.value,
            }
            self._file.write(json.dumps(line, ensure_ascii=False) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file and the policy."""
        self._file.close()
        super().close()


def _drop_cut_line(path: Path) -> None:
    """Truncate a file to its last complete line."""
    if not path.exists():
        return
    with path.open("r+b") as file:
        end = file.seek(0, os.SEEK_END)
        keep = end
        while keep > 0:
            start = max(0, keep - _TAIL)
            file.seek(start)
            newline = file.read(keep - start).rfind(b"\n")
            if newline >= 0:
                keep = start + newline + 1
                break
            keep = start
        if keep < end:
            file.truncate(keep)


def _call_key(of: CallId) -> tuple[object, ...]:
    """The fields of an id. `dataclasses.astuple` copies them deeply, which took most of the time of a key."""
    return (of.purpose, of.round, of.role, of.prompt_id, of.candidate, of.stage, of.vote, of.attempt)


def _sampling_key(sampling: Sampling) -> tuple[object, ...]:
    """The sampling parameters for a key; `thinking` is part of the codec's identity, and an unset limit is left out."""
    basic = (sampling.max_tokens, sampling.temperature, sampling.top_p, sampling.top_k, sampling.min_p)
    return basic if sampling.max_answer is None else (*basic, sampling.max_answer)


def _label(calls: Sequence[AgentCall], version: PolicyVersion) -> str:
    """The text of the progress line: `round-002 answers as grader`."""
    roles = ", ".join(dict.fromkeys(call.id.role.replace("_", " ") for call in calls))
    return f"{version.name} answers as {roles}"

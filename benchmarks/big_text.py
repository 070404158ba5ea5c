"""Made answers of any length with token ids like those of a tokenizer with a large vocabulary, and an engine for them.

Sentences are drawn from a chain of word pairs over Python's own documentation, so that they compress about as English
does: the words are real, sentences are not repeated as wholes. A word is cut into tokens of at most four characters.
"""

from __future__ import annotations

import random
import re
from collections import Counter, deque
from collections.abc import Collection, Sequence
from itertools import chain, pairwise
from pydoc_data.topics import topics

from policies.policy import ModelPolicy
from svd_loop.contracts import (
    BUILT_IN_ROLES,
    Choice,
    FinishReason,
    Generation,
    GenerationRequest,
    Message,
    PolicyVersion,
    Role,
    Sampling,
)

STOP, TURN = 151_643, 151_644
FIRST = 300
VERSION = PolicyVersion(0, "5f" * 32)
SENTENCES = 20_000
ROOM = 65_536
ROLES = {role: Sampling(1000 + place) for place, role in enumerate(BUILT_IN_ROLES)}
"""The engine sees no roles, so each has a token limit of its own."""

_VERDICTS = (Role.QUESTION_COMPARER, Role.FACT_CHECKER, Role.GRADER)


class Words:
    """Sentences and their token ids."""

    def __init__(self) -> None:
        self._ids: dict[str, tuple[int, ...]] = {}
        self._words: dict[int, str] = {}
        self._tokens: dict[str, int] = {}
        draw = random.Random(0)
        text = "\n".join(topics.values())
        words = re.findall(r"[A-Za-z]+[,.]?|\d+", text)
        self.encode(" ".join(word for word, _ in Counter(words).most_common()))  # frequent words first
        follow: dict[str, list[str]] = {}
        for one, other in pairwise(words):
            follow.setdefault(one, []).append(other)
        self.sentences = [self._sentence(draw, words, follow) for _ in range(SENTENCES)]
        self.ids = [self.encode(sentence) for sentence in self.sentences]

    def _sentence(self, draw: random.Random, words: Sequence[str], follow: dict[str, list[str]]) -> str:
        sentence = [words[int(draw.random() * len(words))]]
        for _ in range(8 + int(16 * draw.random())):
            chance, after = draw.random(), follow.get(sentence[-1], words)
            sentence.append(str(int(1e5 * chance)) if chance < 0.1 else after[int(draw.random() * len(after))])
        return " ".join(sentence) + "."

    def encode(self, text: str) -> tuple[int, ...]:
        """The token ids of a text."""
        known = self._ids
        pieces = text.split(" ")
        for word in set(pieces).difference(known):
            known[word] = tuple(self._token(f" {word}"[k : k + 4]) for k in range(0, len(word) + 1, 4))
        return tuple(chain.from_iterable([known[word] for word in pieces]))

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids."""
        return "".join(map(self._words.__getitem__, ids)).removeprefix(" ")

    def _token(self, piece: str) -> int:
        """The id of a piece: rare ones have large ids, as the merges of a byte-pair encoding have."""
        if piece not in self._tokens:
            token = FIRST + int(len(self._tokens) ** 1.3)
            self._tokens[piece], self._words[token] = token, piece
        return self._tokens[piece]


class BigCodec:
    """What `ModelPolicy` uses of a chat codec, without a template; prompts of the newest messages are kept."""

    def __init__(self, words: Words) -> None:
        self._words = words
        self._cache: dict[tuple[Message, ...], tuple[int, ...]] = {}

    def identity(self, thinking: bool = False) -> str:
        """A constant."""
        return "big"

    def encode(self, conversations: Sequence[tuple[Message, ...]], *, thinking: bool = False) -> list[tuple[int, ...]]:
        """Token ids of conversations."""
        if len(self._cache) > 1000:
            self._cache.clear()
        for messages in conversations:
            if messages not in self._cache:
                words = " ".join(message.content for message in messages)
                self._cache[messages] = (TURN, *self._words.encode(words))
        return [self._cache[messages] for messages in conversations]

    def decode(self, answers: Sequence[Sequence[int]], *, thinking: bool = False) -> list[str]:
        """The texts of answers."""
        return [self._words.decode(ids[:-1]) for ids in answers]

    def choices(self, texts: Sequence[str], *, thinking: bool = False) -> tuple[Choice, ...]:
        """None: no answer is limited."""
        return ()


class BigEngine:
    """Answers at once, a few rows at a time.

    Args:
        words: the sentences.
        candidate: characters of a solution.
        vote: characters of a judge's reply.
        yes: chance that a vote is yes.
        slots: rows in flight; a `take` answers one of 128 of them.
    """

    def __init__(self, words: Words, candidate: int, vote: int, yes: float, slots: int) -> None:
        self._words = words
        self._lengths = {Role.SOLVER: candidate, Role.QUESTION_INFERRER: min(vote, 300)}
        self._vote = vote
        self._yes = yes
        self.slots = slots
        self._queue: deque[tuple[int, GenerationRequest]] = deque()
        self._dropped: set[int] = set()

    def generate(self, requests: Sequence[GenerationRequest], *, label: str = "") -> list[Generation]:
        """Answer all requests."""
        return [self._answer(request) for request in requests]

    def stream(self, label: str = "", total: int = 0) -> BigEngine:
        """This engine: one round uses one stream."""
        return self

    def put(self, requests: Sequence[tuple[int, GenerationRequest]]) -> None:
        """Queue requests."""
        self._queue.extend(requests)

    def drop(self, numbers: Collection[int]) -> None:
        """Forget requests."""
        self._dropped.update(numbers)

    def take(self) -> list[tuple[int, Generation]]:
        """Answer the oldest requests."""
        done: list[tuple[int, Generation]] = []
        while self._queue and len(done) < max(1, self.slots // 128):
            number, request = self._queue.popleft()
            if number in self._dropped:
                self._dropped.remove(number)
            else:
                done.append((number, self._answer(request)))
        return done

    def close(self) -> None:
        """Forget what is queued."""
        self._queue.clear()

    def _answer(self, request: GenerationRequest) -> Generation:
        draw = random.Random(request.seed)
        limit = request.sampling.max_tokens
        role = next(role for role, own in ROLES.items() if limit in (own.max_tokens, 2 * own.max_tokens))
        length = self._lengths.get(role, self._vote)
        ids: list[int] = []
        while length > 0:
            place = int(draw.random() * SENTENCES)
            length -= len(self._words.sentences[place]) + 1
            ids += self._words.ids[place]
        if role in _VERDICTS:
            ids += self._words.encode("[[Y]]" if draw.random() < self._yes else "[[N]]")
        return Generation((*ids, STOP), FinishReason.STOP)


def big_policy(candidate: int, vote: int, yes: float, slots: int) -> ModelPolicy:
    """The product's policy over the engine."""
    words = Words()
    engine = BigEngine(words, candidate, vote, yes, slots)
    codec: object = BigCodec(words)
    return ModelPolicy(engine, codec, VERSION, ROLES, job_seed=0, max_context=ROOM)  # type: ignore[arg-type]

"""The engine `abacus`: tokens in, tokens out, without a model."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Sequence

from policies.text.chat import ChatCodec
from policies.versions.stored import StoredVersion
from svd_abacus.domain import total_of
from svd_abacus.rows import AbacusSection
from svd_loop.config.sections import ModelSection
from svd_loop.contracts import FinishReason, Generation, GenerationRequest
from svd_loop.errors import ConfigError

SKILL_FILE = "skill.json"


class Abacus:
    """Solves where it is asked for a total, and judges where it is shown one."""

    def __init__(self, skill: float, codec: ChatCodec) -> None:
        self._skill = skill
        self._tokenizer = codec.tokenizer
        self._stop = min(codec.stop_ids)

    def generate(self, requests: Sequence[GenerationRequest], *, label: str = "") -> list[Generation]:
        """One answer for each request, from its own seed."""
        return [self._generation(request) for request in requests]

    def close(self) -> None:
        """Nothing is held."""

    def _generation(self, request: GenerationRequest) -> Generation:
        words = self._answer(self._tokenizer.decode(request.prompt_ids), random.Random(request.seed))
        ids = self._tokenizer(words, add_special_tokens=False)["input_ids"]
        return Generation((*ids, self._stop), FinishReason.STOP)

    def _answer(self, asked: str, draw: random.Random) -> str:
        question = re.search(r"Add up:((?: \d+)+)", asked)
        right = sum(map(int, question[1].split())) if question else 0
        if "total = N" in asked:
            return f"total = {right if draw.random() < self._skill else right + 1 + draw.randrange(3)}"
        return "[[Y]]" if total_of(asked) == str(right) else "[[N]]"


def check(section: AbacusSection) -> None:
    """An abacus that always slips teaches nothing."""
    if section.skill == 0.0:
        raise ConfigError("engine.skill: 0.0 never gives a right total; set it above")


def open_engine(stored: StoredVersion, codec: ChatCodec, settings: AbacusSection, model: ModelSection) -> Abacus:
    """The skill of a version, or of the base."""
    path = stored.checkpoint / SKILL_FILE
    return Abacus(json.loads(path.read_text())["skill"] if path.exists() else settings.skill, codec)

"""Play a round with any callable as the agent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import gymnasium

from svd_loop.contracts import Episode
from svd_loop.errors import ActionError


class Agent(Protocol):
    """A solver: maps question texts to solutions. A plain function will do."""

    def __call__(self, texts: Sequence[str], count: int, /) -> Sequence[Sequence[str]]:
        """Return `count` solutions for each text, aligned with `texts`; missing ones are not asked for again."""
        ...


def play(env: gymnasium.Env[Any, Any], agent: Agent, *, options: Mapping[str, Any] | None = None) -> Episode:
    """Play one round of `SelfVerification-v0`, wrapped or not, to its end.

    Args:
        env: The environment.
        agent: Called once per step with the texts still open and the number of solutions wanted for each.
        options: Passed to `reset`.

    Raises:
        ActionError: The agent returned answers for a different number of texts than it got.
    """
    observation, info = env.reset(options=dict(options or {}))
    terminated = False
    while not terminated:
        texts = [observation[place] for place in info["open"]]
        answers = agent(texts, len(info["indices"]))
        if len(answers) != len(texts):
            raise ActionError(f"the agent was shown {len(texts)} texts and answered {len(answers)}")
        blocks = dict(zip(info["open"], answers, strict=True))
        action = tuple(tuple(blocks.get(place, ())) for place in range(len(observation)))
        observation, _, terminated, _, info = env.step(action)
    episode: Episode = info["outcome"]
    return episode

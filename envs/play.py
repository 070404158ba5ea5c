"""Playing a round with an agent of one's own: the few lines that tie any callable to the environment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import gymnasium

from svd_loop.contracts import Episode
from svd_loop.errors import ActionError


class Agent(Protocol):
    """Somebody's solver: from question texts to solutions. A plain function will do."""

    def __call__(self, texts: Sequence[str], count: int, /) -> Sequence[Sequence[str]]:
        """`count` solutions for each text, aligned with `texts`; fewer forfeit the rest."""
        ...


def play(env: gymnasium.Env[Any, Any], agent: Agent, *, options: Mapping[str, Any] | None = None) -> Episode:
    """Play one round of `SelfVerification-v0`, wrapped or not, to its end.

    Args:
        env: The environment.
        agent: Called once per step with the texts still open and how many solutions are wanted of each.
        options: Passed to `reset`.

    Raises:
        ActionError: The agent answered another number of texts than it was shown.
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

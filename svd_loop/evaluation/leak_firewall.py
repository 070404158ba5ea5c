"""The leak check of completions: held-out problems in text that the policy wrote.

Training prompts are checked when they are read. A model may still have memorised a held-out problem and write it into a
solution of another prompt, so accepted completions are checked by the same rules before they become rows.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path

from envs.prompts import LeakIndex
from svd_loop.config.data import LeakSection
from svd_loop.contracts import Candidate, Episode, Problem
from svd_loop.errors import LeakError

log = logging.getLogger(__name__)

_SHOWN = 5


class CompletionFirewall:
    """Drops, or refuses, selected completions that hold a held-out problem.

    Args:
        problems: all held-out problems of the job; only their texts are read.
        settings: `data.leak`; `refuse` raises, `drop` leaves the completions out with a warning.
        report: the JSON Lines file for the pairs of a round; written if there are any.
    """

    def __init__(self, problems: Iterable[Problem], settings: LeakSection, report: Path) -> None:
        self._problems = list(problems)
        self._settings = settings
        self._report = report

    def __call__(self, episode: Episode) -> Episode:
        """The episode without the leaking completions among its `selected`.

        Raises:
            LeakError: there are some, and the configuration says to refuse. All finished work is kept.
        """
        selected = episode.selected
        held = self._index.find_each([one.text for one in selected], [_name(episode, one) for one in selected])
        leaks = [leak for found in held for leak in found]
        if not leaks:
            return episode
        listing = self._report.with_name(f"{self._report.stem}-{episode.round:03d}{self._report.suffix}")
        listing.write_text("".join(json.dumps(asdict(leak)) + "\n" for leak in leaks), encoding="utf-8")
        clean = tuple(candidate for candidate, found in zip(selected, held, strict=True) if not found)
        summary = (
            f"{len(selected) - len(clean)} of {len(selected)} accepted completions of round "
            f"{episode.round} hold held-out problems"
        )
        if self._settings.action == "refuse":
            shown = "\n".join(f"  {leak}" for leak in leaks[:_SHOWN])
            raise LeakError(
                f"{summary}:\n{shown}\nAll pairs are listed in {listing}. Set data.leak.action: drop to leave them out "
                "and run the same command again; everything so far is kept."
            )
        log.warning("%s and are left out; pairs in %s", summary, listing)
        return replace(episode, selected=clean)

    @cached_property
    def _index(self) -> LeakIndex:
        return LeakIndex(self._problems, self._settings)


def _name(episode: Episode, candidate: Candidate) -> str:
    return f"round {episode.round}, candidate {candidate.index} of prompt {candidate.prompt_id}"

"""The child of `envs.domains.math`: compares answers with `math-verify`, one message at a time."""

from __future__ import annotations

import resource

from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse, verify

from envs.sandbox.frames import ChannelClosed, read_frame, write_frame

_SECONDS = 2
_MEMORY_BYTES = 4 * 1024**3
_TARGETS = (LatexExtractionConfig(boxed_match_priority=0), ExprExtractionConfig())


def equal(gold: str, answer: str) -> bool:
    """Whether the two are the same mathematics; whatever cannot be parsed or decided in time is not."""
    parsed = [parse(f"\\boxed{{{text}}}", _TARGETS, parsing_timeout=_SECONDS) for text in (gold, answer)]
    return bool(verify(*parsed, timeout_seconds=_SECONDS))


def main() -> None:
    """Serve until standard input closes."""
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    while True:
        try:
            question = read_frame(0)
            write_frame(1, {"equal": equal(question["gold"], question["answer"])})
        except ChannelClosed:
            return


if __name__ == "__main__":
    main()

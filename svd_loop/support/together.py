"""Ask one policy the calls of several independent parts together, in fewer and larger batches.

    part 1 ──generate──┐
    part 2 ──generate──┤  wait until every running part has asked
    part 3 ── ended    │
                       ▼
              policy.generate(all calls)      in the caller's thread
                       │
    part 1 ◄── replies ┤
    part 2 ◄── replies ┘

A part is an ordinary function of a policy. Replies depend on the call alone and not on its batch, so the result of a
part is the same as if it ran by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any

from svd_loop.contracts import AgentCall, Policy, Reply
from svd_loop.support.wrapping import PolicyWrapper

_Asked = SimpleQueue[tuple[int, Sequence[AgentCall] | None]]
"""A part's place and its calls; None for the calls if the part has ended."""


def together(policy: Policy, parts: Sequence[Callable[[Policy], Any]]) -> list[Future[Any]]:
    """Run the parts until all have ended.

    Args:
        policy: answers the calls; used in this thread only.
        parts: functions of a policy, each run in a thread of its own.

    Returns:
        The ended parts, in their order: `result()` returns a part's result or raises its error. If the policy fails,
        every part that waits for replies gets the error.
    """
    asked: _Asked = SimpleQueue()
    proxies = [_Waiting(policy, place, asked) for place in range(len(parts))]
    with ThreadPoolExecutor(max(1, len(parts))) as pool:
        futures = [pool.submit(_run, part, proxy, asked) for part, proxy in zip(parts, proxies, strict=True)]
        try:
            _serve(policy, proxies, asked)
        except BaseException:  # Ctrl-C: the parts have to end, or the pool waits for them for ever
            for proxy in proxies:
                proxy.replies.put(RuntimeError("the calls are no longer answered"))
            raise
    return futures


class _Waiting(PolicyWrapper):
    """A part's policy: hands its calls over and waits for the replies."""

    def __init__(self, policy: Policy, place: int, asked: _Asked) -> None:
        super().__init__(policy)
        self.place = place
        self._asked = asked
        self.replies: SimpleQueue[list[Reply] | Exception] = SimpleQueue()

    def generate(self, calls: Sequence[AgentCall]) -> list[Reply]:
        """Wait until the calls are answered."""
        self._asked.put((self.place, calls))
        replies = self.replies.get()
        if isinstance(replies, Exception):
            raise replies
        return replies


def _run(part: Callable[[Policy], Any], proxy: _Waiting, asked: _Asked) -> Any:
    try:
        return part(proxy)
    finally:
        asked.put((proxy.place, None))


def _serve(policy: Policy, proxies: Sequence[_Waiting], asked: _Asked) -> None:
    """Answer the parts' calls until all parts have ended."""
    running = len(proxies)
    while running:
        waiting: dict[int, Sequence[AgentCall]] = {}
        while len(waiting) < running:
            place, calls = asked.get()
            if calls is None:
                running -= 1
            else:
                waiting[place] = calls
        places = sorted(waiting)  # threads ask in any order, batches are always the same
        answered: list[Reply] | Exception
        try:
            answered = policy.generate([call for place in places for call in waiting[place]]) if places else []
        except Exception as error:
            answered = error
        first = 0
        for place in places:
            after = first + len(waiting[place])
            proxies[place].replies.put(answered if isinstance(answered, Exception) else answered[first:after])
            first = after

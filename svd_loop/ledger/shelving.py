"""Store texts and token ids of settled candidates while their round is played, and read them back.

The rows of a round are committed together at its end (`rounds`); what they refer to is stored by then, so that the
commit writes small rows only, and memory holds no text of a settled prompt.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from svd_loop.contracts import Candidate, Verdict, Vote
from svd_loop.ledger.contents import ContentStore, decode_ids, decode_text, encode_ids, encode_text


def shelve(
    store: ContentStore, played: Sequence[tuple[Candidate, Verdict]], kept: Collection[tuple[str, int]]
) -> list[tuple[Candidate, Verdict]]:
    """Store what is not stored, within the caller's transaction.

    Returns:
        The records with `stored`, and without texts and ids but for candidates in `kept` (prompt id and index).
    """
    candidates = [
        one if (one.prompt_id, one.index) in kept else replace(one, text="", prompt_ids=(), token_ids=())
        for one in stored_candidates(store, [candidate for candidate, _ in played])
    ]
    return list(zip(candidates, stored_verdicts(store, [verdict for _, verdict in played]), strict=True))


def stored_candidates(store: ContentStore, candidates: Sequence[Candidate]) -> list[Candidate]:
    """Store candidates that are not stored; returns all with `stored`."""
    new = [candidate for candidate in candidates if candidate.stored is None]
    texts = store.put("solver", (encode_text(candidate.text) for candidate in new))
    prompts = {id(candidate.prompt_ids): encode_ids(candidate.prompt_ids) for candidate in new}
    asked = store.put("solver prompt ids", prompts.values())
    encoded = [encode_ids(candidate.token_ids) for candidate in new]
    written = store.put("solver ids", encoded)
    places = iter(
        (texts[encode_text(one.text)].id, asked[prompts[id(one.prompt_ids)]].id, written[ids].id)
        for one, ids in zip(new, encoded, strict=True)
    )
    return [one if one.stored is not None else replace(one, stored=next(places)) for one in candidates]


def stored_verdicts(store: ContentStore, verdicts: Sequence[Verdict]) -> list[Verdict]:
    """Store votes that are not stored; returns all verdicts with votes that have `stored` and no text."""
    new = {vote.text for verdict in verdicts for vote in verdict.votes if vote.stored is None}
    encoded = {text: encode_text(text) for text in new}
    texts = store.put_all({"votes": encoded.values()}, joined=True)
    return [
        replace(verdict, votes=tuple(_stored(vote, texts[encoded[vote.text]].id) for vote in verdict.votes))
        if any(vote.stored is None for vote in verdict.votes)
        else verdict
        for verdict in verdicts
    ]


def complete(store: ContentStore, candidates: Sequence[Candidate]) -> list[Candidate]:
    """Return candidates with their texts and ids.

    Raises:
        LedgerError: what was stored cannot be read.
    """
    bare = [one for one in candidates if one.stored is not None and not one.text and not one.token_ids]
    contents = store.load(place for one in bare for place in one.stored or ())
    prompts: dict[int, tuple[int, ...]] = {}  # candidates of a prompt share it
    found = []
    for one in candidates:
        if one.stored is None or one.text or one.token_ids:
            found.append(one)
            continue
        text, asked, written = one.stored
        if asked not in prompts:
            prompts[asked] = decode_ids(contents[asked].data)
        words, ids = decode_text(contents[text].data), decode_ids(contents[written].data)
        found.append(replace(one, text=words, prompt_ids=prompts[asked], token_ids=ids))
    return found


def _stored(vote: Vote, place: int) -> Vote:
    return Vote(vote.prompt_id, vote.candidate, vote.stage, vote.vote, vote.value, "", place)

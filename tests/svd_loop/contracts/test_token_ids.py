from __future__ import annotations

from array import array

from svd_loop.contracts import shared_ids


def test_ids_are_the_same_and_share_their_integers() -> None:
    ids = [int(text) for text in ("0", "70000", "262143")]
    one, other = shared_ids(ids), shared_ids(array("I", ids))
    assert one == other == tuple(ids)
    assert all(a is b for a, b in zip(one, other, strict=True))


def test_ids_beyond_any_vocabulary_are_kept_as_they_are() -> None:
    for ids in ((), (2**40, 1), (-1, 5)):
        assert shared_ids(ids) == ids

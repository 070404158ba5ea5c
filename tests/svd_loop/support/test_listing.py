from __future__ import annotations

from svd_loop.support.listing import listing


def test_near_names_come_first_and_the_rest_in_order() -> None:
    assert listing("Champon", ["alpha", "challenger", "champion"]) == "champion, alpha, challenger"
    assert listing("zzz", ["b", "a", "b"]) == "b, a"
    assert listing("x", []) == "none"


def test_long_lists_are_cut_and_counted() -> None:
    shown = listing("job-29", (f"job-{place}" for place in range(30)), most=3)
    assert shown.startswith("job-29, ") and shown.endswith(", … (30 in all)") and shown.count("job-") == 3

"""Ways of asking a judge for a vote, one file each (`cascade.asking`).

A built-in stage says what it asks about (`Check`) and which texts it shows; how that becomes calls is here:

    direct, think   instruction ──> findings and verdict in one reply
    two_turns       instruction ──> findings ──> "does it pass?" ──> one of the two markers
    solve_first     the question ──> own solution ──> the candidate, compare ──> findings ──> "does it pass?" ──> marker
                    (once per vote and prompt)

`think` differs from `direct` by its sampling parameters alone (`svd_loop.config.sections`).
"""

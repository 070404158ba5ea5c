"""Sweeps: arms and seeds are run and compared, as evidence for the method's claims and for our defaults.

`plan` turns a sweep's file into plays (one arm with one seed), `play` runs one, `runner` runs all, `results` stores
their results, `figures` compares them with intervals, `page` and `plots` show them. The arms of a seed share answers
(`svd_loop.ledger.shared`), so an arm that differs only in selection or training generates no sample or vote again.
"""

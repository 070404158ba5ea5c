"""Arms times seeds, played side by side and compared: what the method's claims and our defaults rest on.

`plan` turns a sweep's file into plays, `play` plays one, `runner` plays them all, `results` keeps what came out,
`figures` compares with intervals, and `page` and `plots` show it. The answers of a seed are shared between its arms
(`svd_loop.ledger.shared`), so an arm that differs in selection or training alone pays for no sample and no vote twice.
"""

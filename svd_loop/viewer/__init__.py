"""The viewer of a job: server-rendered pages over its ledger, read-only, for a browser on the same machine.

`pages` makes the contexts of the templates from the ledger, `app` serves them, `export` writes them to files. The first
page and the design are those of the report (`svd_loop.report`).
"""

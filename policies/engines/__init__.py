"""Engines run one set of weights: tokens and seeds in, tokens out (`svd_loop.contracts.Engine`).

One module per engine, imported only when it is used, because each needs a heavy library.
"""

"""Engines run one set of weights: tokens and seeds in, tokens out (`svd_loop.contracts.Engine`).

One small module each, imported only when it is used, since each brings a heavy library.
"""

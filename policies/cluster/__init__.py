"""A Ray cluster: connecting to it, and bringing a version's files to its nodes, which need not share a file system.

Imports Ray inside functions only, so that everything else works without it.
"""

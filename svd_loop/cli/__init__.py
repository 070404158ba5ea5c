"""The command line: parse, call, print.

Results go to stdout, progress and tables to stderr; `--json` prints one JSON object. Nothing heavy is
imported before a command starts its work, so that `--help` answers at once.
"""

from svd_loop.cli.app import main

__all__ = ["main"]

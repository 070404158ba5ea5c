"""`python -m svd_loop.cli`."""

from svd_loop.cli import main

main()

"""Held-out measurement, the audit of the judge against gold, and the leak check of completions."""

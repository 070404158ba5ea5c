"""Check a job before it starts and forecast its cost: calls, tokens and hours by a short probe; memory and disk."""

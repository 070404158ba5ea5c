"""Held-out measurement, the audit of the judge against it, and the second look at leaks."""

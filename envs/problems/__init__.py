"""Generators of seeded problems: the nano domains, and arithmetic for scripted runs."""

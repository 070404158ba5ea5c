"""Helpers that do not depend on the loop: progress, statistics, policy wrappers, usage, memory, processes."""

"""Small helpers that know nothing of the loop: progress, statistics, policy wrappers, usage, memory, processes."""

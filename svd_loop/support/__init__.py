"""Small helpers that know nothing of the loop: progress, statistics, usage counts, memory, child processes."""

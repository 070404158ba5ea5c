"""What a job will cost, before it starts: calls, tokens, hours from a short probe; memory, disk from its shape."""

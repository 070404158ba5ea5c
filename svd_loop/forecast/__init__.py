"""What a job will cost, before it starts: calls, tokens and hours from a short probe; memory and disk from its shape."""

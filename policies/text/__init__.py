"""Convert between messages and token ids: chat templates, stop tokens, thinking."""

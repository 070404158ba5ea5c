"""Between messages and token ids: chat templates, stop tokens, thoughts."""

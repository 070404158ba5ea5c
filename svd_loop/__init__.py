"""Self-Verified Distillation: a language model that gets better from its own verified work."""

__version__ = "0.1.0"

"""The embedded default checkpoint and its construction: corpus, tokenizer, training, measurement and model card.

Import the modules themselves; this package imports none of them, so that importing ``corpus`` does not load torch.
"""

from pathlib import Path

NANO_CHECKPOINT = Path(__file__).parents[2] / "policies" / "nano"
"""Folder of the shipped checkpoint."""

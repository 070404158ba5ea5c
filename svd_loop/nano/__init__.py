"""The embedded default checkpoint and how it is made: corpus, tokenizer, training, measurement and model card.

Import the modules themselves; this package loads none of them, so that asking for ``corpus`` never loads torch.
"""

from pathlib import Path

NANO_CHECKPOINT = Path(__file__).parents[2] / "policies" / "nano"
"""The checkpoint that is shipped."""

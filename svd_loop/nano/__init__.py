"""How the embedded default checkpoint is made: corpus, tokenizer, training, measurement and model card.

Import the modules themselves; this package imports nothing, so that asking for ``corpus`` never loads torch.
"""

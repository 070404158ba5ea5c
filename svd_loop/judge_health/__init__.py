"""The judge measured every round: canaries and labelled answers, without gold of training prompts."""

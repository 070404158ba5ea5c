"""Measure the judge every round with canaries and labelled answers, without gold of training prompts."""

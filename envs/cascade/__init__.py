"""The verification cascade: templates, votes, verdicts, and the order in which votes are asked."""

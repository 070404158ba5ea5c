"""Adding up, for svd-loop."""

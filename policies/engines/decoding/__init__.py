"""The decode loop of the transformers engine: a pool of rows, its key-value cache, and the sampler."""

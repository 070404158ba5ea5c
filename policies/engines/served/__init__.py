"""The server engine: `vllm serve` replicas that run elsewhere, called over HTTP and kept on the wanted version."""

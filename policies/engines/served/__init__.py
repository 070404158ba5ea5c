"""Replicas of vllm serve that run elsewhere: asked over HTTP, kept on the version that is wanted."""

"""Stored policy versions: manifests, folders, and loading them as models."""

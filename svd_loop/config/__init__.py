"""Configuration: typed sections (`sections`) and reading them from YAML (`loading`)."""

from svd_loop.config.loading import (
    changed_config,
    changed_keys,
    config_digest,
    load_config,
    load_sweep,
    parse_config,
)
from svd_loop.config.removed import without_removed
from svd_loop.config.sections import Config

__all__ = [
    "Config",
    "changed_config",
    "changed_keys",
    "config_digest",
    "load_config",
    "load_sweep",
    "parse_config",
    "without_removed",
]

"""YAML text to plain data, or one readable error: nothing in a file can hang the program or pass unseen.

Refused here, naming the line: a key given twice, an anchor that refers to itself, aliases that multiply, nesting beyond
any use, and scalars that cannot be read. Dates stay text, and `on`, `off`, `yes` and `no` are words, as in YAML 1.2.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from svd_loop.errors import ConfigError

MAX_BYTES = 2**20
MAX_DEPTH = 50
MAX_NODES = 100_000
"""Values of a file with every alias written out."""
_AS_TEXT = ("tag:yaml.org,2002:bool", "tag:yaml.org,2002:timestamp")


class _Loader(yaml.SafeLoader):
    """YAML whose `on`, `off`, `yes` and `no` are words: `on:` is a key here, not a truth value."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in _AS_TEXT]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile("true|True|TRUE|false|False|FALSE"), list("tTfF"))


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a file.

    Raises:
        ConfigError: the file cannot be read, or is no usable mapping; names the file.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        text = content.decode("utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such configuration file") from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    if len(content) > MAX_BYTES:
        raise ConfigError(f"{path}: is larger than {MAX_BYTES // 2**20} MiB, which no configuration is")
    data = parse_yaml(text, str(path))
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: must be a mapping of sections, found {type(data).__name__}")
    return data


def parse_yaml(text: str, origin: str) -> Any:
    """The value that a text stands for; `origin` names it in errors.

    Raises:
        ConfigError: the text is no YAML, or is refused by the rules at the head of this module.
    """
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            _Check(origin).size(node)
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        raise ConfigError(f"{origin}: not valid YAML: {error}") from None
    except RecursionError:
        raise ConfigError(f"{origin}: is nested deeper than {MAX_DEPTH} levels") from None
    except (ValueError, OverflowError) as error:  # an integer of thousands of digits
        raise ConfigError(f"{origin}: a value cannot be read: {error}") from None


class _Check:
    """Counts the values of a document with every alias written out, each node once."""

    def __init__(self, origin: str) -> None:
        self._origin = origin
        self._sizes: dict[int, int] = {}
        self._open: set[int] = set()

    def size(self, node: Node, depth: int = 0) -> int:
        """Values below a node, itself included.

        Raises:
            ConfigError: the node is refused.
        """
        if id(node) in self._open:
            raise self._refused(node, "refers to itself")
        if depth > MAX_DEPTH:
            raise self._refused(node, f"is nested deeper than {MAX_DEPTH} levels")
        if id(node) not in self._sizes:
            self._open.add(id(node))
            self._sizes[id(node)] = 1 + sum(self.size(child, depth + 1) for child in self._children(node))
            self._open.remove(id(node))
        if self._sizes[id(node)] > MAX_NODES:
            raise self._refused(node, f"stands for more than {MAX_NODES:,} values")
        return self._sizes[id(node)]

    def _children(self, node: Node) -> list[Node]:
        if isinstance(node, SequenceNode):
            return list(node.value)
        if not isinstance(node, MappingNode):
            return []
        lines: dict[tuple[str, str], int] = {}
        for key, _ in node.value:
            if isinstance(key, ScalarNode) and key.value != "<<":
                name = (key.tag, key.value)
                if name in lines:
                    raise self._refused(key, f"gives {key.value[:80]!r} again, first in line {lines[name]}")
                lines[name] = key.start_mark.line + 1
        return [part for pair in node.value for part in pair]

    def _refused(self, node: Node, why: str) -> ConfigError:
        return ConfigError(f"{self._origin}: line {node.start_mark.line + 1} {why}")

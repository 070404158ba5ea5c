"""Prompt templates as versioned files: one folder per set, one file per role.

A set is a folder under `envs/templates` (or any path) with `solver.txt`, `question_inferrer.txt`,
`question_comparer.txt`, `fact_checker.txt` and `grader.txt`; `<role>.<domain>.txt` takes precedence for its domain. A
file is one user message; a line `---user---` parts a system message from it. Placeholders are `$question`, `$solution`
and `$inferred` (`$$` is a dollar sign). Which of them a role may use is fixed here, and that is how the question
inferrer is kept from seeing the question.

Judge templates should begin with what they share (question, then answer) and end with what differs (the stage's
instruction), so that an engine with a prefix cache reads the shared part once for all stages and votes.

The version of a template is made from the bytes of its file, so that every reply can be traced to the exact wording.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Template

from envs.cascade.markers import delimiter_lines, neutralise, without_delimiters
from svd_loop.contracts import Domain, Message, Role
from svd_loop.errors import ConfigError

_SETS = Path(__file__).parents[1] / "templates"
_USER_LINE = re.compile(r"^---user---\n", re.MULTILINE)

PLACEHOLDERS: Mapping[Role, frozenset[str]] = {
    Role.SOLVER: frozenset({"question"}),
    Role.QUESTION_INFERRER: frozenset({"solution"}),
    Role.QUESTION_COMPARER: frozenset({"question", "inferred"}),
    Role.FACT_CHECKER: frozenset({"question", "solution"}),
    Role.GRADER: frozenset({"question", "solution"}),
}
"""What each role's template must contain, and all it may contain."""

_WRITTEN_BY_CANDIDATES = frozenset({"solution", "inferred"})


@dataclass(frozen=True, slots=True)
class _RoleTemplate:
    """One file: its messages before filling in, its version, and the lines that part its sections."""

    messages: tuple[tuple[str, Template], ...]
    version: str
    delimiters: frozenset[tuple[str, ...]]

    def safe(self, text: str) -> str:
        """Text of candidate origin that can neither write a verdict nor end its own section."""
        return without_delimiters(neutralise(text), self.delimiters)


@dataclass(frozen=True, slots=True)
class TemplateSet:
    """All templates of one set, read and checked."""

    name: str
    _templates: Mapping[tuple[Role, Domain], _RoleTemplate]

    @classmethod
    def load(cls, name_or_path: str) -> TemplateSet:
        """Read a set by its name under `envs/templates`, or by the path of its folder.

        Raises:
            ConfigError: There is no such set, a role has no file, or a file's placeholders are not its role's.
        """
        folder = _find(name_or_path)
        paths = {(role, domain): _path(folder, role, domain) for role in Role for domain in Domain}
        templates = {path: _read(path, role) for (role, _), path in paths.items()}
        return cls(folder.name, {key: templates[path] for key, path in paths.items()})

    def render(self, role: Role, domain: Domain, **fields: str) -> tuple[Message, ...]:
        """The messages of a call. Text that a candidate had a hand in is neutralised here, for every caller.

        Args:
            role: Who is asked.
            domain: What the prompt is about.
            **fields: A text for each of the role's placeholders, `PLACEHOLDERS[role]`.
        """
        template = self._templates[role, domain]
        safe = {name: template.safe(text) if name in _WRITTEN_BY_CANDIDATES else text for name, text in fields.items()}
        return tuple(Message(who, part.substitute(safe)) for who, part in template.messages)

    def version(self, role: Role, domain: Domain) -> str:
        """`<set>/<first 12 hex digits of the file's SHA-256>`."""
        return self._templates[role, domain].version


def known_sets() -> list[str]:
    """Names of the sets that ship with the package."""
    return sorted(path.name for path in _SETS.iterdir() if path.is_dir())


def _find(name_or_path: str) -> Path:
    if name_or_path in known_sets():
        return _SETS / name_or_path
    folder = Path(name_or_path)
    if folder.is_dir():
        return folder.resolve()
    raise ConfigError(
        f"model.templates: no template set {name_or_path!r}; known sets: {', '.join(known_sets())}; "
        "or give the path of a folder with template files"
    )


def _path(folder: Path, role: Role, domain: Domain) -> Path:
    specific, general = folder / f"{role}.{domain}.txt", folder / f"{role}.txt"
    for path in (specific, general):
        if path.is_file():
            return path
    raise ConfigError(f"model.templates: {folder} has no {general.name} (nor {specific.name}) for the {role} role")


def _read(path: Path, role: Role) -> _RoleTemplate:
    try:
        content = path.read_bytes()
        text = content.decode("utf-8").replace("\r\n", "\n").removesuffix("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"model.templates: {path} cannot be read: {error}") from None
    *system, user = _USER_LINE.split(text, maxsplit=1)
    messages = (*(("system", Template(part.removesuffix("\n"))) for part in system), ("user", Template(user)))
    _check(path, role, [template for _, template in messages])
    version = f"{path.parent.name}/{hashlib.sha256(content).hexdigest()[:12]}"
    return _RoleTemplate(messages, version, delimiter_lines(text))


def _check(path: Path, role: Role, templates: list[Template]) -> None:
    if not all(template.is_valid() for template in templates):
        raise ConfigError(f"model.templates: {path} has a `$` that begins no placeholder; write `$$` for a dollar sign")
    used = {name for template in templates for name in template.get_identifiers()}
    wanted = PLACEHOLDERS[role]
    if used != wanted:
        raise ConfigError(
            f"model.templates: {path} uses the placeholders {_listed(used)}, "
            f"but a {role} template must use exactly {_listed(wanted)}"
        )


def _listed(names: set[str] | frozenset[str]) -> str:
    return ", ".join(f"${name}" for name in sorted(names)) or "(none)"

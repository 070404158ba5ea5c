"""Prompt templates as versioned files: one folder per set, one file per role.

A set is a folder under `envs/templates` (or any path) with `solver.txt`, `question_inferrer.txt`,
`question_comparer.txt`, `fact_checker.txt` and `grader.txt`, and with `reviser.txt` where `sampling.revise` is used;
`<role>.<domain>.txt` takes precedence for its domain. A file is one user message; a line `---user---` parts a system
message from it. Placeholders are `$question`, `$solution`, `$inferred` and `$critique` (`$$` is a dollar sign). Which
of them a role may use is fixed here, and that is how the question inferrer is kept from seeing the question.

A judge's role may have further wordings of the same question, `<role>.2.txt`, `<role>.3.txt` and so on
(`<role>.<domain>.2.txt` for a domain); `cascade.wordings` says how many are used, vote by vote in turn. `<role>.txt` is
the first.

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
    Role.REVISER: frozenset({"question", "solution", "critique"}),
    Role.QUESTION_INFERRER: frozenset({"solution"}),
    Role.QUESTION_COMPARER: frozenset({"question", "inferred"}),
    Role.FACT_CHECKER: frozenset({"question", "solution"}),
    Role.GRADER: frozenset({"question", "solution"}),
}
"""What each role's template must contain, and all it may contain."""

_WRITTEN_BY_CANDIDATES = frozenset({"solution", "inferred", "critique"})
_OPTIONAL = frozenset({Role.REVISER})
"""Roles a set may do without, as long as nobody asks them."""


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
    _templates: Mapping[tuple[Role, Domain], tuple[_RoleTemplate, ...]]

    @classmethod
    def load(cls, name_or_path: str) -> TemplateSet:
        """Read a set by its name under `envs/templates`, or by the path of its folder.

        Raises:
            ConfigError: There is no such set, a role has no file, or a file's placeholders are not its role's.
        """
        folder = _find(name_or_path)
        roles = [role for role in Role if role not in _OPTIONAL or any(folder.glob(f"{role}.*txt"))]
        paths = {(role, domain): _paths(folder, role, domain) for role in roles for domain in Domain}
        templates = {path: _read(path, role) for (role, _), found in paths.items() for path in found}
        return cls(folder.name, {key: tuple(templates[path] for path in found) for key, found in paths.items()})

    def wordings(self, role: Role) -> int:
        """How many wordings a role has in every domain; 0 if the set does without the role."""
        return min(len(self._templates.get((role, domain), ())) for domain in Domain)

    def render(self, role: Role, domain: Domain, *, wording: int = 0, **fields: str) -> tuple[Message, ...]:
        """The messages of a call. Text that a candidate had a hand in is neutralised here, for every caller.

        Args:
            role: Who is asked.
            domain: What the prompt is about.
            wording: Which of the role's wordings, from 0.
            **fields: A text for each of the role's placeholders, `PLACEHOLDERS[role]`.
        """
        template = self._templates[role, domain][wording]
        safe = {name: template.safe(text) if name in _WRITTEN_BY_CANDIDATES else text for name, text in fields.items()}
        return tuple(Message(who, part.substitute(safe)) for who, part in template.messages)

    def version(self, role: Role, domain: Domain, *, wording: int = 0) -> str:
        """`<set>/<first 12 hex digits of the file's SHA-256>`."""
        return self._templates[role, domain][wording].version


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


def _paths(folder: Path, role: Role, domain: Domain) -> list[Path]:
    """The first wording of a role and domain, and those numbered 2, 3, ... beside it."""
    first = _path(folder, role, domain)
    found = [first]
    while (further := first.with_suffix(f".{len(found) + 1}.txt")).is_file():
        found.append(further)
    return found


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

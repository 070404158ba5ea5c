"""Prompt templates as versioned files: one folder per set, one file per role.

A set is a folder under `envs/templates` (or any path) with `solver.txt`, `question_inferrer.txt`,
`question_comparer.txt`, `fact_checker.txt` and `grader.txt`; `<role>.<domain>.txt` takes precedence for its domain. A
file is one user message; a line `---user---` separates a system message from it. Placeholders are `$question`,
`$solution` and `$inferred` (`$$` is a dollar sign). Which of them a role may use is fixed here; this keeps the question
inferrer from seeing the question.

Judge templates should begin with the shared part (question, then answer) and end with the different part (the stage's
instruction), so that an engine with a prefix cache reads the shared part once for all stages and votes.

The version of a template is made from the bytes of its file, so that every reply can be traced to the exact wording.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Template

from envs.cascade.markers import delimiter_lines, neutralise, without_delimiters
from svd_loop.config.domains import section_of
from svd_loop.contracts import BUILT_IN_DOMAINS, DomainName, Message, Role
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
"""The placeholders of each role's template: exactly these, no others."""

_WRITTEN_BY_CANDIDATES = frozenset({"solution", "inferred"})


@dataclass(frozen=True, slots=True)
class _RoleTemplate:
    """One template file: its messages before filling in, its version, and its separator lines."""

    messages: tuple[tuple[str, Template], ...]
    version: str
    delimiters: frozenset[tuple[str, ...]]

    def safe(self, text: str) -> str:
        """Text from a candidate, changed so that it can neither form a verdict nor end its own section."""
        return without_delimiters(neutralise(text), self.delimiters)


@dataclass(frozen=True, slots=True)
class TemplateSet:
    """All templates of one set, validated: one per role, and others for some of its domains."""

    name: str
    _folder: Path
    _templates: Mapping[tuple[Role, DomainName | None], _RoleTemplate]

    @classmethod
    def load(cls, name_or_path: str) -> TemplateSet:
        """Read a set by its name under `envs/templates`, or by the path of its folder.

        Raises:
            ConfigError: There is no such set, a role has no file, or a file's placeholders are not its role's.
        """
        folder = _find(name_or_path)
        found = cls(folder.name, folder, dict(_read_all(folder)))
        for role in Role:
            for domain in BUILT_IN_DOMAINS:
                found._template(role, domain)
        return found

    def render(self, role: Role, domain: DomainName, **fields: str) -> tuple[Message, ...]:
        """The messages of a call. Text from a candidate is neutralised here, for every caller.

        Args:
            role: The role that is called.
            domain: The domain of the prompt.
            **fields: A text for each of the role's placeholders, `PLACEHOLDERS[role]`.

        Raises:
            ConfigError: The set has no template for a domain of another package.
        """
        template = self._template(role, domain)
        safe = {name: template.safe(text) if name in _WRITTEN_BY_CANDIDATES else text for name, text in fields.items()}
        return tuple(Message(who, part.substitute(safe)) for who, part in template.messages)

    def version(self, role: Role, domain: DomainName) -> str:
        """`<set>/<first 12 hex digits of the SHA-256 of the template's text>`."""
        return self._template(role, domain).version

    def _template(self, role: Role, domain: DomainName) -> _RoleTemplate:
        """The template: the set's own for the domain, else the domain's solver instruction, else the role's default."""
        if (own := self._templates.get((role, domain))) is not None:
            return own
        if role is Role.SOLVER and domain not in BUILT_IN_DOMAINS:
            instruction = section_of(domain).instruction
            if instruction is not None:
                return _instruction(domain, instruction)
        if (general := self._templates.get((role, None))) is not None:
            return general
        raise ConfigError(
            f"model.templates: {self._folder} has no {role}.txt (nor {role}.{domain}.txt) for the {role} role"
        )


@functools.cache
def _instruction(domain: DomainName, text: str) -> _RoleTemplate:
    return _parse(f"the instruction of domain {domain}", domain, text.encode(), Role.SOLVER)


def _read_all(folder: Path) -> Iterator[tuple[tuple[Role, DomainName | None], _RoleTemplate]]:
    """Every template in a folder, by role and domain; None stands for any domain."""
    for role in Role:
        for path in sorted(folder.glob(f"{role}*.txt")):
            stem, _, domain = path.name.removesuffix(".txt").partition(".")
            if stem == role:
                yield (role, domain or None), _read(path, role)


def known_sets() -> list[str]:
    """Names of the template sets of this package."""
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


def _read(path: Path, role: Role) -> _RoleTemplate:
    try:
        return _parse(str(path), path.parent.name, path.read_bytes(), role)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"model.templates: {path} cannot be read: {error}") from None


def _parse(where: str, origin: str, content: bytes, role: Role) -> _RoleTemplate:
    text = content.decode("utf-8").replace("\r\n", "\n").removesuffix("\n")
    *system, user = _USER_LINE.split(text, maxsplit=1)
    messages = (*(("system", Template(part.removesuffix("\n"))) for part in system), ("user", Template(user)))
    _check(where, role, [template for _, template in messages])
    version = f"{origin}/{hashlib.sha256(content).hexdigest()[:12]}"
    return _RoleTemplate(messages, version, delimiter_lines(text))


def _check(where: str, role: Role, templates: list[Template]) -> None:
    if not all(template.is_valid() for template in templates):
        raise ConfigError(
            f"model.templates: {where} has a `$` that does not begin a placeholder; write `$$` for a dollar sign"
        )
    used = {name for template in templates for name in template.get_identifiers()}
    wanted = PLACEHOLDERS[role]
    if used != wanted:
        raise ConfigError(
            f"model.templates: {where} uses the placeholders {_listed(used)}, "
            f"but a {role} template must use exactly {_listed(wanted)}"
        )


def _listed(names: set[str] | frozenset[str]) -> str:
    return ", ".join(f"${name}" for name in sorted(names)) or "(none)"

"""Prompt templates as versioned files: one folder per set, one file per role.

A set is a folder under `envs/templates` (or any path) with `solver.txt`, `question_inferrer.txt`,
`question_comparer.txt`, `fact_checker.txt` and `grader.txt`, and files of the roles that other ways of asking call
(`cascade.asking`); `<role>.<domain>.txt` takes precedence for its domain. A
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
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template

from envs.cascade.markers import delimiter_lines, neutralise, without_delimiters
from envs.cascade.stage import RoleTemplate, stage_of
from svd_loop.config.domains import section_of
from svd_loop.config.stages import PAPER, StageSection
from svd_loop.contracts import BUILT_IN_DOMAINS, Asking, DomainName, Message, Role, RoleName
from svd_loop.contracts.conversation import shown_text, turns_of
from svd_loop.errors import ConfigError
from svd_loop.support.listing import listing

_SETS = Path(__file__).parents[1] / "templates"
_USER_LINE = re.compile(r"^---user---\n", re.MULTILINE)

_SOLVER = RoleTemplate(frozenset({"question"}))

_WRITTEN_BY_CANDIDATES = frozenset({"solution", "inferred"})


@dataclass(frozen=True, slots=True)
class _Parsed:
    """One template: its messages before filling in, its version, and its separator lines."""

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
    _roles: Mapping[RoleName, RoleTemplate]
    _templates: Mapping[tuple[RoleName, DomainName | None], _Parsed]

    @classmethod
    def load(
        cls, name_or_path: str, stages: Sequence[StageSection] = (), asking: Asking = Asking.DIRECT
    ) -> TemplateSet:
        """Read a set by its name under `envs/templates`, or by the path of its folder.

        Args:
            name_or_path: Which.
            stages: Stages beside the built-in ones, whose roles it has to speak to as well.
            asking: How votes are asked: other ways call other roles.

        Raises:
            ConfigError: There is no such set, a role has no file, or a file's placeholders are not its role's.
        """
        folder = _find(name_or_path)
        roles = {Role.SOLVER: _SOLVER}
        for section in (*PAPER, *stages):
            templates = stage_of(section.type, (section,)).templates
            roles |= {role: templates[role] for role in section.roles_for(asking) if role in templates}
        found = cls(folder.name, folder, roles, dict(_read_all(folder, roles)))
        for role in roles:
            for domain in BUILT_IN_DOMAINS:
                found._template(role, domain)
        return found

    @property
    def roles(self) -> tuple[RoleName, ...]:
        """The roles that the set has templates for."""
        return tuple(self._roles)

    def placeholders(self, role: RoleName) -> frozenset[str]:
        """The placeholders of the role's template: exactly these, no others."""
        return self._roles[role].placeholders

    def render(self, role: RoleName, domain: DomainName, **fields: str) -> tuple[Message, ...]:
        """The messages of a call. Text from a candidate is neutralised here, for every caller.

        A question that is a conversation (`svd_loop.contracts.conversation`) reaches the solver as its turns, the last
        one by the template, and a judge as a transcript.

        Args:
            role: The role that is called.
            domain: The domain of the prompt.
            **fields: A text for each of the role's placeholders.

        Raises:
            ConfigError: The set has no template for a domain of another package.
        """
        template = self._template(role, domain)
        *before, last = turns_of(fields["question"]) if role == Role.SOLVER else (Message("user", ""),)
        shown = {name: shown_text(text) if name == "question" else text for name, text in fields.items()}
        if before:
            shown["question"] = last.content
        safe = {name: template.safe(text) if name in _WRITTEN_BY_CANDIDATES else text for name, text in shown.items()}
        messages = [Message(who, part.substitute(safe)) for who, part in template.messages]
        return tuple(_continued(before, messages) if before else messages)

    def neutral(self, role: RoleName, domain: DomainName, text: str) -> str:
        """A judge's own text, changed so that it can neither form a verdict nor end a section of the template.

        A role without a template (it uses the solver's) has no sections.
        """
        return self._template(role, domain).safe(text) if role in self._roles else neutralise(text)

    def version(self, role: RoleName, domain: DomainName) -> str:
        """`<set>/<first 12 hex digits of the SHA-256 of the template's text>`."""
        return self._template(role, domain).version

    def _template(self, role: RoleName, domain: DomainName) -> _Parsed:
        """The template: the set's own for the domain, else the domain's solver instruction, else the role's default."""
        if (own := self._templates.get((role, domain))) is not None:
            return own
        if role == Role.SOLVER and domain not in BUILT_IN_DOMAINS:
            instruction = section_of(domain).instruction
            if instruction is not None:
                return _instruction(domain, instruction)
        if (general := self._templates.get((role, None))) is not None:
            return general
        if (text := self._roles[role].text) is not None:
            return _brought(role, text, self._roles[role].placeholders)
        raise ConfigError(
            f"model.templates: {self._folder} has no {role}.txt (nor {role}.{domain}.txt) for the {role} role"
        )


def _continued(before: Sequence[Message], messages: Sequence[Message]) -> list[Message]:
    """The template's messages behind earlier turns; two system messages become one, the conversation's first."""
    *instructions, user = messages
    system = [turn.content for turn in (*before, *instructions) if turn.role == "system"]
    turns = [turn for turn in before if turn.role != "system"]
    return [*([Message("system", "\n\n".join(system))] if system else []), *turns, user]


def _instruction(domain: DomainName, text: str) -> _Parsed:
    return _brought(domain, text, _SOLVER.placeholders)


@functools.cache
def _brought(origin: str, text: str, placeholders: frozenset[str]) -> _Parsed:
    """A template that a domain or a stage of another package brings."""
    return _parse(f"the template of {origin}", origin, text.encode(), origin, placeholders)


def _read_all(
    folder: Path, roles: Mapping[RoleName, RoleTemplate]
) -> Iterator[tuple[tuple[RoleName, DomainName | None], _Parsed]]:
    """Every template in a folder, by role and domain; None stands for any domain."""
    for role, template in roles.items():
        for path in sorted(folder.glob(f"{role}*.txt")):
            stem, _, domain = path.name.removesuffix(".txt").partition(".")
            if stem == role:
                yield (role, domain or None), _read(path, role, template.placeholders)


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
        f"model.templates: no template set {name_or_path!r}; known sets: {listing(name_or_path, known_sets())}; "
        "or give the path of a folder with template files"
    )


def _read(path: Path, role: RoleName, placeholders: frozenset[str]) -> _Parsed:
    try:
        return _parse(str(path), path.parent.name, path.read_bytes(), role, placeholders)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"model.templates: {path} cannot be read: {error}") from None


def _parse(where: str, origin: str, content: bytes, role: RoleName, placeholders: frozenset[str]) -> _Parsed:
    text = content.decode("utf-8").replace("\r\n", "\n").removesuffix("\n")
    *system, user = _USER_LINE.split(text, maxsplit=1)
    messages = (*(("system", Template(part.removesuffix("\n"))) for part in system), ("user", Template(user)))
    _check(where, role, placeholders, [template for _, template in messages])
    version = f"{origin}/{hashlib.sha256(content).hexdigest()[:12]}"
    return _Parsed(messages, version, delimiter_lines(text))


def _check(where: str, role: RoleName, wanted: frozenset[str], templates: list[Template]) -> None:
    if not all(template.is_valid() for template in templates):
        raise ConfigError(
            f"model.templates: {where} has a `$` that does not begin a placeholder; write `$$` for a dollar sign"
        )
    used = {name for template in templates for name in template.get_identifiers()}
    if used != wanted:
        raise ConfigError(
            f"model.templates: {where} uses the placeholders {_listed(used)}, "
            f"but a {role} template must use exactly {_listed(wanted)}"
        )


def _listed(names: set[str] | frozenset[str]) -> str:
    return ", ".join(f"${name}" for name in sorted(names)) or "(none)"

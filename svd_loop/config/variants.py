"""Fields that hold a variant of a seam: `engine`, `update.algorithm`, `tracking.trackers`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, SchemaValidator, core_schema

from svd_loop.config.base import Section
from svd_loop.errors import ConfigError
from svd_loop.support.plugins import Seam


class OneOf:
    """Annotates a field with the seam whose variants it takes; the field's type is the base class of their sections.

    Built-in variants are a union distinguished by `type`, which is what JSON schemas show. A name that is not built in
    is looked up among installed packages. Values are written back in full, whatever their class.

    Args:
        seam: the variants.
    """

    def __init__(self, seam: Seam[Any], *, default: str | None = None, by_name: bool = False) -> None:
        self.seam = seam
        self._default = default
        self._by_name = by_name

    def sections(self) -> list[type[Section]]:
        """Configuration classes of the built-in variants, and of the plug-ins that were used so far."""
        return [row.section for row in self.seam.known()]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Validate by `type`, and serialise by the value's own class."""
        rows = self.seam.built_in.items()
        union = core_schema.tagged_union_schema(
            {name: handler.generate_schema(row.section) for name, row in rows}, "type"
        )
        written = core_schema.simple_ser_schema("any")
        if self._by_name:  # as short as it may be read, so that a bare name stays one
            short = core_schema.wrap_serializer_function_ser_schema(_short, schema=core_schema.any_schema())
            return core_schema.no_info_wrap_validator_function(self._validate, union, serialization=short)
        return core_schema.no_info_wrap_validator_function(self._validate, union, serialization=written)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """The union of the built-in sections, with their names beside them where a bare name will do."""
        sections = handler(schema)
        return {"anyOf": [{"enum": list(self.seam.built_in)}, sections]} if self._by_name else sections

    def _validate(self, value: Any, built_in: Callable[[Any], Any]) -> Any:
        if isinstance(value, str) and self._by_name:
            value = {"type": value}
        if isinstance(value, Mapping) and "type" not in value and self._default is not None:
            value = {"type": self._default, **value}
        name = value.get("type") if isinstance(value, Mapping) else getattr(value, "type", None)
        if not isinstance(name, str) or name in self.seam.built_in:
            return built_in(value)
        try:
            section = self.seam.find(name).section
        except ConfigError as error:
            raise ValueError(str(error)) from None
        tagged = core_schema.tagged_union_schema({name: section.__pydantic_core_schema__}, "type")
        return SchemaValidator(tagged).validate_python(value)


def _short(section: Any, serialise: Callable[[Any], Any]) -> Any:
    """A section with default settings as its name; any other in full."""
    plain = serialise(section)
    name = getattr(section, "type", None)
    if not isinstance(section, Section):
        return plain
    required = any(field.is_required() for field in type(section).model_fields.values())
    return name if not required and section == type(section)() else plain

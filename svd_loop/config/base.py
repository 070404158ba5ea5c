"""What all sections share."""

from __future__ import annotations

from typing import Annotated, Any, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.fields import FieldInfo

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[int, Field(ge=1)]
ModelName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._ -]{0,119}$")]
"""Name of a registered model. Left out: `/` and `:`, which MLflow refuses; `@`, which separates a name from its alias;
quotes, which break MLflow's searches."""


class Section(BaseModel):
    """Unknown keys are refused and values cannot be reassigned; numbers are finite, and never true or false."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _truth_is_no_number(cls, data: Any) -> Any:
        """`n: true` would be read as 1; as a word it is refused where it stands."""
        if not isinstance(data, dict):
            return data
        fields = ((name, value, cls.model_fields.get(name)) for name, value in data.items())
        return {name: _no_truth(value) if field and _is_number(field) else value for name, value, field in fields}


def _is_number(field: FieldInfo) -> bool:
    kinds = _leaf_types(field.annotation)
    return bool not in kinds and bool({int, float} & kinds)


def _no_truth(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_no_truth(part) for part in value]
    return str(value).lower() if isinstance(value, bool) else value


def _leaf_types(annotation: Any) -> set[Any]:
    """The plain types that an annotation is made of."""
    parts = get_args(annotation)
    return {annotation} if not parts else {kind for part in parts for kind in _leaf_types(part)}

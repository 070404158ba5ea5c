"""What all sections share."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    """Unknown keys are refused and values cannot be reassigned."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

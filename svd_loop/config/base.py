"""What all sections share."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[int, Field(ge=1)]
ModelName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._ -]{0,119}$")]
"""Registered model: MLflow refuses `/` and `:`, `@` and `/` part a name from its alias, and MLflow's searches break at
quotes."""


class Section(BaseModel):
    """Unknown keys are refused and values cannot be reassigned."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

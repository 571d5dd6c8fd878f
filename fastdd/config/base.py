"""What all sections of a recipe share: the closed, frozen configuration type, and the ranges of its numbers."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Probability = Annotated[float, Field(ge=0, le=1)]
BelowOne = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1)]
All = Literal["all"]
Precision = Literal["auto", "fp32", "bf16"]
"""auto: bf16 autocast where the hardware multiplies it (CUDA; x86 with AMX or AVX512-BF16), else fp32"""
Layers = Literal["stages", "blocks", "bn_inputs"]


class Config(BaseModel):
    """Frozen, and closed: a key that is not declared is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)

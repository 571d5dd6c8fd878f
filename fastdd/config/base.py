"""What all sections of a recipe share: the closed, frozen configuration type, and ranges of numbers."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Probability = Annotated[float, Field(ge=0, le=1)]
BelowOne = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1)]
All = Literal["all"]
Precision = Literal["auto", "fp32", "bf16"]
"""auto: bf16 autocast where the hardware multiplies it (CUDA; x86 with AMX or AVX512-BF16), else fp32"""
LayerKind = Literal["stages", "blocks", "bn_inputs"]


def _kind_or_paths(layers: object) -> object:
    paths = isinstance(layers, list | tuple) and layers and all(isinstance(path, str) for path in layers)
    if paths or layers in get_args(LayerKind):
        return layers
    kinds = ", ".join(get_args(LayerKind))
    raise ValueError(
        f"expected one of {kinds}, or a list of module paths such as ['features.*'], got {layers!r}"
    )


Layers = Annotated[LayerKind | tuple[str, ...], BeforeValidator(_kind_or_paths)]
"""a kind of layers, or module paths such as "features.*": * is one part of a path, ** any number of them"""


class Config(BaseModel):
    """Frozen, and closed: a key that is not declared is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)

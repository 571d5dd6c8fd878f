"""What all sections of a recipe share: the closed, frozen configuration type, and ranges of numbers."""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Annotated, Literal, Union, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic.fields import FieldInfo

from .yaml_text import shown

Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Probability = Annotated[float, Field(ge=0, le=1)]
BelowOne = Annotated[float, Field(ge=0, lt=1)]
Share = Annotated[float, Field(gt=0, lt=1)]
Text = Annotated[str, Field(min_length=1)]
Whole = Annotated[int, Field(ge=-(2**31), le=2**31 - 1)]
Natural = Annotated[int, Field(ge=0, le=2**31 - 1)]
Count = Annotated[int, Field(ge=1, le=2**31 - 1)]
LARGEST_SIDE = 8192
Side = Annotated[int, Field(ge=1, le=LARGEST_SIDE)]
"""pixels of a side of an image or of a patch"""
Border = Annotated[int, Field(ge=0, le=LARGEST_SIDE)]
"""pixels around an image"""
Seed = Annotated[int, Field(ge=0, le=2**63 - 1)]
All = Literal["all"]
Precision = Literal["auto", "fp32", "tf32", "bf16"]
"""fp32: float32, on a GPU too, where PyTorch by itself rounds the operands of convolutions; tf32: products
and convolutions in TF32, on NVIDIA GPUs since Ampere alone; bf16: bfloat16 autocast; auto: bf16 where the
hardware multiplies it (CUDA; x86 with AMX or AVX512-BF16), else fp32"""
LayerKind = Literal["stages", "blocks", "bn_inputs"]
SiameseOperation = Literal["color", "crop", "cutout", "flip", "scale", "rotate"]
"""operations of differentiable Siamese augmentation (fastdd_kernels.siamese)"""


def _kind_or_paths(layers: object) -> object:
    paths = isinstance(layers, list | tuple) and layers and all(isinstance(path, str) for path in layers)
    if paths or layers in get_args(LayerKind):
        return layers
    kinds = ", ".join(get_args(LayerKind))
    raise ValueError(
        f"expected one of {kinds}, or a list of module paths such as ['features.*'], got {shown(layers)}"
    )


Layers = Annotated[LayerKind | tuple[str, ...], BeforeValidator(_kind_or_paths)]
"""a kind of layers, or module paths such as "features.*": * is one part of a path, ** any number of them"""


def alternatives(annotation: object) -> Iterator[object]:
    """The types and words that a value may be: int and "all" of ``Count | Literal["all"]``, None of null."""
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from alternatives(get_args(annotation)[0])
    elif origin in (Union, types.UnionType):
        for each in get_args(annotation):
            yield from alternatives(each)
    elif origin is Literal:
        yield from get_args(annotation)
    else:
        yield None if annotation is type(None) else annotation


class Config(BaseModel):
    """Frozen, closed and strict: unknown keys are errors, and no value is taken for one of another type.

    10.0, "10" and true are no integers, and 1 is not true; an integer is a number, and a list a tuple.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True, allow_inf_nan=False
    )

    @model_validator(mode="before")
    @classmethod
    def _lists_are_tuples(cls, values: object) -> object:
        """Make tuples of lists, which YAML and JSON have alone, where the type is a tuple."""
        if not isinstance(values, dict):
            return values
        made = dict(values)
        for key, field in cls.model_fields.items():
            if isinstance(made.get(key), list) and _is_tuple(field):
                made[key] = tuple(made[key])
        return made


def _is_tuple(field: FieldInfo) -> bool:
    return any(get_origin(each) is tuple for each in alternatives(field.annotation))

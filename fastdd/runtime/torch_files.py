"""Files that ``torch.save`` wrote, read without executing anything that they might hold.

A file may hold tensors, plain Python values, numpy scalars and an ``argparse.Namespace``: training scripts
leave their accuracy and their arguments beside the weights. A file that names anything else is refused.
"""

from __future__ import annotations

import argparse
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import cast

import numpy as np
import torch

_SCALAR = cast("Callable[..., object]", np.float64().__reduce__()[0])
_ALLOWED: list[Callable[..., object] | tuple[Callable[..., object], str]] = [
    *((_SCALAR, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
    np.dtype,
    *(type(np.dtype(name)) for name in ("float64", "float32", "int64", "int32")),
    argparse.Namespace,
]
"""numpy's constructor of scalars under its names before and since numpy 2, the dtypes that it takes, and a
class that only keeps values"""
_NAMED = re.compile(r"(?:GLOBAL|Unsupported class|Unsupported global:)\s+(?:GLOBAL\s+)?([\w.]+)")
"""how torch's error names what a file holds beside tensors and numbers"""


class TorchFileError(ValueError):
    """A file that torch did not write, that is damaged, or that holds more than tensors and numbers."""


def load_torch(path: Path) -> object:
    """What ``torch.save`` wrote to a file, with its tensors on the CPU.

    Raises:
        TorchFileError: the file is something else, or holds more; the reason is one line.
        OSError: the file cannot be read.
    """
    try:
        # An open file, because torch takes the suffix of a path for the kind of its content.
        with open(path, "rb") as file, torch.serialization.safe_globals(_ALLOWED), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return cast(object, torch.load(file, map_location="cpu", weights_only=True))
    except OSError:
        raise
    except Exception as error:  # torch's reader fails on foreign files in many ways
        raise TorchFileError(_reason(error)) from error


def _reason(error: Exception) -> str:
    """Torch's error in a few words, without its advice to execute what the file holds."""
    if named := _NAMED.search(str(error)):
        return f"it names {named[1]}"
    first = re.split(r"[.\n]\s", str(error).strip())[0].rstrip(".")
    # torch's own errors tell of the file, others of Python
    told = isinstance(error, RuntimeError) or type(error).__name__ == "UnpicklingError"
    unknown = not told or first in ("", "Weights only load failed")
    return "it is damaged or torch.save did not write it" if unknown else first

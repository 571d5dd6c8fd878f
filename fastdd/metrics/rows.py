"""Rows of features that come in batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError

try:
    from torchmetrics import Metric
except ImportError as error:
    raise InputError(
        "fastdd.metrics needs torchmetrics, which is not installed; pip install 'fastdd[metrics]' (functions "
        "such as fastdd_kernels.coverage do not need it)"
    ) from error


class RowMetric(Metric):
    """A metric of features [n, D], which it holds until it is computed."""

    is_differentiable = False
    full_state_update = False

    def checked(self, features: object, name: str, known: Sequence[Tensor]) -> Tensor:
        """Features as they are kept: detached.

        Args:
            features: [n, D], of a floating dtype.
            name: what they are called in messages.
            known: rows that came before.

        Raises:
            ValueError: they are no matrix, or have another width than those before.
            TypeError: they are no tensor, or not floating point.
        """
        if not isinstance(features, Tensor):
            raise TypeError(f"{name} are a {type(features).__name__}, expected a tensor [n, D]")
        if features.ndim != 2:
            raise ValueError(f"{name} have shape {list(features.shape)}, expected [n, D], one row an image")
        if not features.is_floating_point():
            raise TypeError(f"{name} are {features.dtype}, expected a floating dtype; call .float() first")
        if len(known) and known[0].shape[1] != features.shape[1]:
            raise ValueError(
                f"{name} have {features.shape[1]} columns, but those before have {known[0].shape[1]}; call "
                "reset() before features of another network"
            )
        return features.detach()

    def plot(self, val: Any = None, ax: Any = None) -> Any:
        """Draw a value, or several over time; see ``torchmetrics.Metric.plot``. It needs matplotlib."""
        return self._plot(val, ax)


def joined(rows: Sequence[Tensor] | Tensor, what: str) -> Tensor:
    """All rows as one matrix; processes that gathered them have joined them already.

    Raises:
        ValueError: there are none.
    """
    if isinstance(rows, Tensor):
        return rows
    if not rows:
        raise ValueError(f"there are no {what} yet; call update() with some before compute()")
    return torch.cat(list(rows))

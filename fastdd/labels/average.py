"""One label of several teachers: the mean of their logits, as they are or brought to one size first.

    mean    sum_m z_m / M
    norm    sum_m z_m (s / |z_m|_F) / M,  s = sum_m |z_m|_F / M,  |.|_F over the labelling batch

norm is G-VBSM's for ImageNet-1K: teachers whose logits are large do not outvote the others.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Average = Literal["mean", "norm"]


def averaged(logits: list[Tensor], average: Average) -> Tensor:
    """Logits [B, C] of a labelling batch, of one or several teachers."""
    if len(logits) == 1:
        return logits[0]
    stacked = torch.stack(logits)
    if average == "norm":
        size = torch.linalg.vector_norm(stacked, dim=(1, 2), keepdim=True)
        stacked = stacked * (size.mean() / size.clamp(min=torch.finfo(size.dtype).tiny))
    return stacked.mean(0)

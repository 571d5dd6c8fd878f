"""The loss between a student's logits and a teacher's, or the mixed classes.

With logits s of the student and z of the teacher, T of the teacher's softmax and t of the student's (the same
unless ``student_temperature`` says otherwise), the mean over the images of

    kl        sum_c p_c log(p_c / q_c),  p = softmax(z / T), q = softmax(s / t);  times T^2 with ``t_squared``
    mse       mean_c (s_c - z_c)^2
    cosine    1 - cos(s, u),  u = z / |z| + g y / |y|   (GIFT, Shang et al., 2025; the released code's form)

g is ``hard_part``, and y the mixed classes, of which ``hard_smoothing`` is spread over the other classes. The
gradient of kl is (q - p) / t. With ``hard_weight`` the cross-entropy with the classes is added.
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError, suggestion

Kind = Literal["kl", "mse", "cosine"]


def distillation(
    outputs: Tensor,
    targets: Tensor,
    *,
    loss: Kind = "kl",
    temperature: float | Tensor = 1.0,
    student_temperature: float | None = None,
    t_squared: bool = False,
    hard_weight: float = 0.0,
    hard_labels: Tensor | None = None,
    hard_smoothing: float = 0.0,
    hard_part: float = 0.0,
    class_shares: Tensor | None = None,
) -> Tensor:
    """The loss of a batch, a float32 scalar.

    Args:
        outputs: the student's logits s [B, C], of any floating dtype.
        targets: the teacher's logits z [B, C].
        loss: kl, mse or cosine, as above.
        temperature: T; a 0-dim tensor, where it changes and the step is compiled.
        student_temperature: t; None: T.
        t_squared: whether kl is multiplied by T^2, which keeps its gradient's size as T grows.
        hard_weight: factor of the cross-entropy that is added.
        hard_labels: classes, int64 [B], or shares of them [B, C]; None: ``hard_weight`` is 0.
        hard_smoothing: share of the classes that is spread over all (cross-entropy) or the others (cosine).
        hard_part: g of the cosine loss.
        class_shares: shares of the classes in mixed images [B, C]; None: ``hard_part`` is 0.

    Raises:
        fastdd.errors.InputError: there is no such loss, the logits are of other shapes, a temperature is not
        above 0, or the classes that a part of it needs are not given.
    """
    _require_known(loss, hard_weight=hard_weight, hard_labels=hard_labels)
    _require_fitting(outputs, targets, temperature=temperature, student_temperature=student_temperature)
    outputs, targets = outputs.float(), targets.float()
    if loss == "kl":
        own = temperature if student_temperature is None else student_temperature
        value = F.kl_div(
            F.log_softmax(outputs / own, 1), F.softmax(targets / temperature, 1), reduction="batchmean"
        )
        value = value * temperature**2 if t_squared else value
    elif loss == "cosine":
        if hard_part and class_shares is None:
            raise InputError(
                f"hard_part {hard_part:g} adds the classes of the images; give class_shares, or hard_part=0"
            )
        direction = _direction(targets, class_shares, hard_part, hard_smoothing)
        value = 1 - F.cosine_similarity(outputs, direction, dim=1).mean()
    else:
        value = F.mse_loss(outputs, targets)
    if hard_labels is not None and hard_weight:
        value = value + hard_weight * F.cross_entropy(outputs, hard_labels, label_smoothing=hard_smoothing)
    return value


def _require_known(loss: str, *, hard_weight: float, hard_labels: Tensor | None) -> None:
    kinds = get_args(Kind)
    if loss not in kinds:
        raise InputError(
            f"there is no loss {loss!r}{suggestion(str(loss), kinds)}; expected one of {', '.join(kinds)}"
        )
    if hard_weight and hard_labels is None:
        raise InputError(
            f"hard_weight {hard_weight:g} adds a cross-entropy with the classes of the images; give "
            "hard_labels, or hard_weight=0"
        )


def _require_fitting(
    outputs: object, targets: object, *, temperature: object, student_temperature: object
) -> None:
    shapes = [tuple(each.shape) if isinstance(each, Tensor) else each for each in (outputs, targets)]
    if not isinstance(outputs, Tensor) or shapes[0] != shapes[1] or outputs.ndim != 2:
        raise InputError(
            f"outputs and targets are {shapes[0]!r:.60} and {shapes[1]!r:.60}, expected logits of the same "
            "shape [B, C]"
        )
    for name, value in (("temperature", temperature), ("student_temperature", student_temperature)):
        known = value is None or isinstance(value, Tensor)  # a GPU would have to be waited for
        if not known and not (isinstance(value, int | float) and 0 < value < math.inf):
            raise InputError(f"{name} is {value!r:.60}, expected a number above 0")


def _direction(logits: Tensor, shares: Tensor | None, part: float, smoothing: float) -> Tensor:
    """u of GIFT, float [B, C], from the teacher's logits and the shares of the classes in the images."""
    direction = F.normalize(logits, dim=1)
    if not part or shares is None:
        return direction
    others = max(1, shares.shape[1] - 1)
    smoothed = shares * (1 - smoothing) + (1 - shares) * (smoothing / others)
    return direction + part * F.normalize(smoothed, dim=1)

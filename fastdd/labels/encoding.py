"""How the logits of a label are written: fp16, bf16, the k largest, or 8 or 4 bits each.

    fp16, bf16   C values                                                  2 C bytes
    topk         k values fp16, k indices, and one value r for the rest    k (2 + i) + 2, i = 1 up to 256 classes, 2 up
                                                                           to 32,768, else 4
    int8, int4   q with z ~ low + scale q, low and scale fp16, a label's   C + 4, ceil(C / 2) + 4

The released FKD layout takes 2 C + 25 (logits, window, flip, partner).

topk: r is such that, at temperature T, the probability that is left is that of the remaining classes together,
r = T (logsumexp_rest(z / T) - log(C - k)): it is spread evenly over them, and the k classes keep theirs at T.
int8, int4: low is rounded down and scale up to fp16, so every logit is within scale / 2 of its decoded value.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from ..errors import InputError

Form = Literal["fp16", "bf16", "topk", "int8", "int4"]
FLOATS = {"fp16": torch.float16, "bf16": torch.bfloat16}
LEVELS = {"int8": 255, "int4": 15}
INDICES = ((1 << 8, torch.uint8), (1 << 15, torch.int16), (1 << 31, torch.int32))
"""how many classes each dtype can tell apart"""
Encoded = dict[str, Tensor]
"""what a file holds of some labels; the first dimension of every tensor is theirs"""


def bytes_per_label(form: Form, classes: int, k: int = 10) -> int:
    """Bytes that a label takes, without its view."""
    if form in FLOATS:
        return 2 * classes
    if form == "topk":
        kept = min(k, classes)
        return kept * (2 + _index(classes).itemsize) + 2
    return (classes if form == "int8" else -(-classes // 2)) + 4


def shapes(form: Form, labels: int, classes: int, k: int = 10) -> dict[str, list[int]]:
    """Of the tensors that encode gives, by name."""
    if form in FLOATS:
        return {"logits": [labels, classes]}
    if form == "topk":
        kept = min(k, classes)
        return {"values": [labels, kept], "index": [labels, kept], "rest": [labels]}
    return {
        "levels": [labels, classes if form == "int8" else -(-classes // 2)],
        "low": [labels],
        "scale": [labels],
    }


def encode(logits: Tensor, form: Form, k: int = 10, temperature: float = 1.0) -> Encoded:
    """Write logits float [B, C] in a form.

    Args:
        k, temperature: of topk.

    Raises:
        InputError: logits that are no finite numbers, or too large for the form.
    """
    logits = logits.detach().float().cpu()
    if not logits.isfinite().all():
        raise InputError(
            "logits must be finite, got NaN or infinity; look for a teacher that does not fit the images"
        )
    if form in FLOATS:
        encoded = {"logits": logits.to(FLOATS[form])}
    elif form == "topk":
        encoded = _encode_topk(logits, k, temperature)
    else:
        encoded = _encode_levels(logits, LEVELS[form])
    if not all(tensor.isfinite().all() for tensor in encoded.values() if tensor.is_floating_point()):
        raise InputError(
            f"logits up to {float(logits.abs().max()):.3g} do not fit 16-bit floats, which end at 65504; use "
            "labels.form=bf16"
        )
    return encoded


def decode(encoded: Encoded, form: Form, classes: int) -> Tensor:
    """Logits float32 [B, classes] of what encode gave."""
    if form in FLOATS:
        return encoded["logits"].float()
    if form == "topk":
        logits = encoded["rest"].float()[:, None].repeat(1, classes)
        return logits.scatter_(1, encoded["index"].long(), encoded["values"].float())
    levels = encoded["levels"]
    if form == "int4":
        levels = torch.stack((levels & 15, levels >> 4), dim=2).flatten(1)[:, :classes]
    return encoded["low"].float()[:, None] + levels * encoded["scale"].float()[:, None]


def _encode_topk(logits: Tensor, k: int, temperature: float) -> Encoded:
    classes = logits.shape[1]
    values, index = logits.topk(min(k, classes), dim=1)
    rest = torch.zeros(len(logits))
    if k < classes:
        others = logits.scatter(1, index, float("-inf")).double() / temperature
        count = torch.tensor(float(classes - k), dtype=torch.float64)
        rest = temperature * (others.logsumexp(1) - count.log())
    return {"values": values.half(), "index": index.to(_index(classes)), "rest": rest.half()}


def _index(classes: int) -> torch.dtype:
    """The smallest dtype that holds a class."""
    return next(dtype for most, dtype in INDICES if classes <= most)


def _encode_levels(logits: Tensor, top: int) -> Encoded:
    low, high = logits.aminmax(dim=1)
    low = _down(low)
    scale = -_down(-(high - low.float()) / top)
    levels = ((logits - low.float()[:, None]) / scale.float()[:, None]).round().clamp(0, top).to(torch.uint8)
    if top == LEVELS["int4"]:
        pairs = torch.nn.functional.pad(levels, (0, levels.shape[1] % 2)).unflatten(1, (-1, 2))
        levels = pairs[:, :, 0] | pairs[:, :, 1] << 4
    return {"levels": levels, "low": low, "scale": scale}


def _down(values: Tensor) -> Tensor:
    """fp16 numbers just below float32 values."""
    return (values - values.abs() * 2.0**-10 - 2.0**-24).half()

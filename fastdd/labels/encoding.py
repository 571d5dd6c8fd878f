"""Forms in which the C logits z of a label are stored: fp16, bf16, the k largest, or 8 or 4 bits each.

    form         what is stored                                            bytes a label
    fp16, bf16   C values                                                  2 C
    topk         k values in fp16, k indices of i bytes, one value r       k (2 + i) + 2
                 without r (``rest: none``)                                k (2 + i)
    int8, int4   levels q with z ~ low + scale q; low and scale in fp16    C + 4 and ceil(C / 2) + 4
    lowrank      of an image's E views the logits [E, C] are their mean
                 + U V, U [E, r] and V [r, C] of the singular value
                 decomposition, all in fp16                                2 (r (E + C) + C) / E
    pq           a product quantizer: the C classes are cut into m runs,
                 and each run of a label is the nearest of 256 centers,
                 which k-means finds on 20,000 labels                      m, and 512 C in all

An index takes i = 1 byte up to 256 classes, 2 up to 32,768, else 4. The released FKD layout takes 2 C + 25
bytes a label, with its view.

topk gives every class but the k largest the logit r = T (logsumexp_rest(z / T) - log(C - k)): at temperature
T the k classes keep their probabilities, and what is left is spread evenly over the others. Without r they
have fp16's lowest number, so that softmax(z / T) is that of the k alone at any T up to 500 (LPQLD's MR-k).
int8 and int4 round low down and scale up to fp16, so a decoded logit is at most scale / 2 away.

lowrank and pq need the labels of the whole set before the first can be written: low rank wants many views of
few images, and pruning few views of many. A decoded logit of lowrank is as near as a plane of r dimensions
can be in the mean square (Eckart and Young, 1936). Cost: an eigenvalue decomposition of min(E, C)^2 numbers
an image, or 256 C products a label.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ..errors import InputError
from ..runtime.seeds import generator

Form = Literal["fp16", "bf16", "topk", "int8", "int4", "lowrank", "pq"]
Rest = Literal["spread", "none"]
"""what topk gives the classes that it does not keep"""
NOTHING = torch.finfo(torch.float16).min
"""logit of a class without probability"""
FLOATS = {"fp16": torch.float16, "bf16": torch.bfloat16}
LEVELS = {"int8": 255, "int4": 15}
INDICES = ((1 << 8, torch.uint8), (1 << 15, torch.int16), (1 << 31, torch.int32))
"""(number of classes, dtype): the dtype can tell that many classes apart"""
Encoded = dict[str, Tensor]
"""tensors by name, as a file holds them; their first dimension is the labels"""


@dataclass(frozen=True)
class LabelForm:
    """The form of stored labels and its numbers; the defaults are those of released FKD labels.

    Attributes:
        form: what is stored; see this module's table.
        k: number of classes that topk keeps.
        rest: what topk gives the classes that it does not keep.
        temperature: T of topk.
        rank: directions of an image of lowrank.
        codes: bytes of a label of pq.
    """

    form: Form = "fp16"
    k: int = 10
    rest: Rest = "spread"
    temperature: float = 20.0
    rank: int = 2
    codes: int = 8


def bytes_per_label(form: Form, classes: int, k: int = 10, rest: Rest = "spread") -> int:
    """How many bytes a label takes, without its view; not of lowrank and pq (LabelManifest.bytes)."""
    if form in FLOATS:
        return 2 * classes
    if form == "topk":
        kept = min(k, classes)
        return kept * (2 + _index_dtype(classes).itemsize) + (2 if rest == "spread" else 0)
    return (classes if form == "int8" else -(-classes // 2)) + 4


def shapes(form: Form, labels: int, classes: int, k: int = 10, rest: Rest = "spread") -> dict[str, list[int]]:
    """Shapes of the tensors that ``encode`` gives, by name."""
    if form in FLOATS:
        return {"logits": [labels, classes]}
    if form == "topk":
        kept = min(k, classes)
        found = {"values": [labels, kept], "index": [labels, kept]}
        return found | {"rest": [labels]} if rest == "spread" else found
    return {
        "levels": [labels, classes if form == "int8" else -(-classes // 2)],
        "low": [labels],
        "scale": [labels],
    }


def encode(
    logits: Tensor, form: Form, k: int = 10, temperature: float = 1.0, *, rest: Rest = "spread"
) -> Encoded:
    """Encode logits.

    Args:
        logits: float [B, C].

    Raises:
        InputError: a logit is not finite, or too large for the form.
    """
    logits = logits.detach().float().cpu()
    if not logits.isfinite().all():
        raise InputError("logits must be finite, got NaN or infinity; check that the teacher fits the images")
    if form in FLOATS:
        encoded = {"logits": logits.to(FLOATS[form])}
    elif form == "topk":
        encoded = _encode_topk(logits, k, temperature)
        if rest == "none":
            del encoded["rest"]
    else:
        encoded = _encode_levels(logits, LEVELS[form])
    if not all(tensor.isfinite().all() for tensor in encoded.values() if tensor.is_floating_point()):
        raise InputError(
            f"logits up to {float(logits.abs().max()):.3g} do not fit fp16, which ends at 65504; set "
            "labels.form=bf16"
        )
    return encoded


def decode(encoded: Encoded, form: Form, classes: int) -> Tensor:
    """Decode what ``encode`` gave: logits float32 [B, classes], on the CPU."""
    if form in FLOATS:
        return encoded["logits"].float()
    if form == "topk":
        index = encoded["index"].long()
        rest = encoded["rest"].float() if "rest" in encoded else torch.full((len(index),), NOTHING)
        return rest[:, None].repeat(1, classes).scatter_(1, index, encoded["values"].float())
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
    return {"values": values.half(), "index": index.to(_index_dtype(classes)), "rest": rest.half()}


def _index_dtype(classes: int) -> torch.dtype:
    """The smallest dtype that holds the number of a class."""
    return next(dtype for most, dtype in INDICES if classes <= most)


def _encode_levels(logits: Tensor, top: int) -> Encoded:
    low, high = logits.aminmax(dim=1)
    low = _round_down(low)
    scale = -_round_down(-(high - low.float()) / top)
    levels = ((logits - low.float()[:, None]) / scale.float()[:, None]).round().clamp(0, top).to(torch.uint8)
    if top == LEVELS["int4"]:
        pairs = torch.nn.functional.pad(levels, (0, levels.shape[1] % 2)).unflatten(1, (-1, 2))
        levels = pairs[:, :, 0] | pairs[:, :, 1] << 4
    return {"levels": levels, "low": low, "scale": scale}


def _round_down(values: Tensor) -> Tensor:
    """Round float32 values to fp16, never up."""
    return (values - values.abs() * 2.0**-10 - 2.0**-24).half()


WHOLE_SET = ("lowrank", "pq")
SHARED = ("mean", "basis", "codebook")
"""tensors of which a row is not a label's: two have a row an image, the codebook one a center"""
CENTERS = 256
"""centers of a run of classes: as many as a byte tells apart"""
SAMPLE = 20_000
"""labels on which k-means finds the centers"""


def low_rank(logits: Tensor, rank: int) -> Encoded:
    """The nearest logits of a rank beside their mean, of each image.

    Args:
        logits: float [N, E, C], of E views of N images.
        rank: r, at most min(E, C).

    Returns:
        float64 ``mean`` [N, C], ``coefficients`` [N, E, r], which are U, and ``basis`` [N, r, C], which is V.
    """
    logits = logits.double()
    mean = logits.mean(1)
    rest = logits - mean[:, None]
    if rest.shape[1] < rest.shape[2]:
        vectors = torch.linalg.eigh(rest @ rest.mT).eigenvectors  # eigenvalues rise
        coefficients = vectors[:, :, -rank:].flip(2)
        basis = coefficients.mT @ rest
    else:
        vectors = torch.linalg.eigh(rest.mT @ rest).eigenvectors
        basis = vectors[:, :, -rank:].flip(2).mT
        coefficients = rest @ basis.mT
    return {"mean": mean, "coefficients": coefficients, "basis": basis}


def find_codebook(logits: Tensor, codes: int, seed: int) -> Tensor:
    """The centers of a product quantizer, float16 [256, C].

    Args:
        logits: float [n, C], some labels; where a run has less than 256 different values, they are its
            centers, and the last one fills up.
    """
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    found = []
    for number, run in enumerate(logits.float().tensor_split(codes, dim=1)):
        centers = run.unique(dim=0)
        if len(centers) > CENTERS:
            start = int(torch.randint(2**31, (), generator=generator(seed, "codebook", number)))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)  # of labels that hardly differ
                fitted = KMeans(CENTERS, n_init=1, random_state=start).fit(run.numpy())
            centers = torch.from_numpy(fitted.cluster_centers_).float()
        found.append(torch.cat((centers, centers[-1:].expand(CENTERS - len(centers), -1))))
    return _half(torch.cat(found, dim=1))


def quantize(logits: Tensor, codebook: Tensor, codes: int) -> Tensor:
    """The nearest center of each run of classes, uint8 [B, m].

    Args:
        codes: m, number of runs.
    """
    runs = zip(logits.float().tensor_split(codes, 1), codebook.float().tensor_split(codes, 1), strict=True)
    return torch.stack([torch.cdist(run, centers).argmin(1) for run, centers in runs], 1).to(torch.uint8)


def decode_whole_set(encoded: Encoded, classes: int) -> Tensor:
    """Logits float32 [B, classes], of labels whose images' rows of mean and basis stand beside them."""
    if "codes" in encoded:
        codes = encoded["codes"].long()
        lengths = [len(run) for run in torch.arange(classes).tensor_split(codes.shape[1])]
        columns = codes.repeat_interleave(torch.tensor(lengths), dim=1)
        return encoded["codebook"].float().gather(0, columns)
    products = encoded["coefficients"].float()[:, None] @ encoded["basis"].float()
    return encoded["mean"].float() + products[:, 0]


def encode_low_rank(logits: Tensor, rank: int) -> Encoded:
    """``low_rank`` in fp16."""
    return {name: _half(tensor) for name, tensor in low_rank(logits, rank).items()}


def _half(values: Tensor) -> Tensor:
    rounded = values.half()
    if not rounded.isfinite().all():
        raise InputError(
            f"numbers up to {float(values.abs().max()):.3g} do not fit fp16, which ends at 65504; set "
            "labels.form=bf16"
        )
    return rounded

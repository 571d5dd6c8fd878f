"""Forms of labels that need the labels of the whole set before the first can be written: low rank and codes.

    lowrank   of an image's E views the logits [E, C] are their mean + U V, with U [E, r] and V [r, C] of the
              singular value decomposition: 2 (r (E + C) + C) / E bytes a label, all in fp16
    pq        a product quantizer: the C classes are cut into m runs, and each run of a label is the nearest
              of 256 centers, which k-means finds on 20,000 labels: m bytes a label and 512 C bytes in all

So low rank wants many views of few images, and pruning few views of many. A decoded logit of lowrank is as
near as a plane of r dimensions can be in the mean square (Eckart and Young, 1936). Cost: an eigenvalue
decomposition of min(E, C)^2 numbers an image, or 256 C products a label.
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from ..errors import InputError
from ..runtime.seeds import generator
from .encoding import Encoded

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

"""Vendi score: the effective number of different rows in a set.

    K_ij = cos(x_i, x_j)      lambda = eigenvalues of K / n, which sum to 1
    Vendi_1 = exp(-sum lambda ln lambda)                     (Friedman and Dieng 2023)
    Vendi_q = (sum lambda^q)^(1 / (1 - q))                   (Renyi order q)
    Vendi_2 = n^2 / ||K||_F^2        Vendi_inf = 1 / max lambda

1 if all rows point one way, n if they are orthogonal. K = U Ut and Ut U share their nonzero
eigenvalues, and the Frobenius norm, so the smaller of the two is formed: n D min(n, D) operations,
then min(n, D)^3 for eigenvalues, which order 2 does without.

Orders from 1 on are continuous in the eigenvalues, so a large kernel of float32 rows is decomposed in
float32. Rounding changes K / n by an E with ||E||_F of some 3e-7, hence -sum lambda ln lambda by at most
t ln d + t - t ln t with t = sqrt(d) ||E||_F / 2 (Fannes and Audenaert), 1e-4 for d = 512. Rows of rank 1 to
50 were off by 1e-6 to 8e-5, rows of full rank by 1e-7 to 1e-6.

A zero row has no direction. All zero rows count together as one more kind, orthogonal to the rest:
the kernel keeps its unit diagonal, and blank images do not pass for many different ones.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .cosine import check_pair, rows_in_range, to_float, unit_rows
from .product import matmul

_ROWS = 1 << 14  # rows added to the D x D Gram matrix at a time
_SINGLE = 256  # from this size on, float32 rows give float32 eigenvalues; smaller ones cost nothing
_STRIP = 64  # rows of the triangle of a Gram matrix that are formed at a time
_ON_CPU = 2048  # below this size a matrix gives its eigenvalues faster to a CPU than to the GPU that it is on

# -- reference -------------------------------------------------------------------------------------


def vendi_score_reference(x: Tensor, q: float = 1.0) -> Tensor:
    """The definition, from the n x n kernel in float64, for rows that are not zero."""
    unit = x.double() / x.double().norm(dim=1, keepdim=True)
    eigenvalues = torch.linalg.eigvalsh(unit @ unit.mT / x.shape[0])
    eigenvalues = eigenvalues[eigenvalues > 1e-12]
    if q == 1:
        return (-(eigenvalues * eigenvalues.log()).sum()).exp()
    if math.isinf(q):
        return 1 / eigenvalues.max()
    return eigenvalues.pow(q).sum() ** (1 / (1 - q))


# -- public function -------------------------------------------------------------------------------


def _directions(x: Tensor) -> Tensor:
    """Unit rows [n, D + 1]; the last coordinate is the shared direction of the zero rows."""
    unit = unit_rows(rows_in_range(x))
    zero = ~x.ne(0).any(1, keepdim=True)
    return torch.cat((unit, zero.to(unit.dtype)), dim=1)


def _smaller_gram(unit: Tensor) -> Tensor:
    """U Ut or Ut U, whichever is smaller."""
    if unit.shape[0] <= unit.shape[1]:
        return matmul(unit, unit.mT)
    parts = unit.split(_ROWS)
    gram = matmul(parts[0].mT, parts[0])
    for part in parts[1:]:
        gram = gram + matmul(part.mT, part)
    return gram


def _single_directions(x: Tensor) -> Tensor:
    """``_directions`` of float32 rows, without the last coordinate where no row can be zero."""
    norms = torch.linalg.vector_norm(x, dim=1, keepdim=True)
    looks = not (x.is_cuda or torch.compiler.is_compiling())
    if looks and 1e-15 < float(norms.amin()) <= float(norms.amax()) < 1e15:
        return x / norms
    return _directions(x)


def _triangle_of_gram(unit: Tensor) -> Tensor:
    """The smaller of U Ut and Ut U, of which only the upper triangle is filled in: half of the operations."""
    rows = unit if unit.shape[0] <= unit.shape[1] else unit.mT
    gram = rows.new_zeros(len(rows), len(rows))
    for start in range(0, len(rows), _STRIP):
        gram[start : start + _STRIP, start:] = matmul(rows[start : start + _STRIP], rows[start:].mT)
    return gram


def _eigenvalues(x: Tensor, q: float) -> Tensor:
    """The eigenvalues of K, float32 or float64, on the device of x."""
    wants_gradient = torch.is_grad_enabled() and x.requires_grad
    single = x.dtype == torch.float32 and q >= 1 and min(x.shape) >= _SINGLE and not wants_gradient
    gram = _triangle_of_gram(_single_directions(x)) if single else _smaller_gram(_directions(x.double()))
    gram = gram.cpu() if len(gram) < _ON_CPU else gram
    return torch.linalg.eigvalsh(gram, UPLO="U").to(x.device)


def vendi_score(x: Tensor, q: float = 1.0) -> Tensor:
    """Vendi score of order q of the rows of x, under the cosine kernel.

    Order 2 is a closed form in the precision of x, cheap, differentiable and safe under
    ``torch.compile``: the order to use inside a loss. The others take the eigenvalues in float64; but
    orders from 1 on, of at least 256 float32 rows and 256 features that need no gradient, take them in
    float32, with an error of at most some 1e-4 of the score.

    Args:
        x: embeddings [n, D], n >= 1, any real float dtype. The scale of a row does not matter.
        q: order >= 0; ``math.inf`` is allowed. 0 counts the directions (the numerical rank), larger
            orders weigh common directions more.

    Returns:
        A scalar in [1, n]; float64 if x is, float32 otherwise.

    Raises:
        ValueError: x is not a matrix or is empty, or q is negative or NaN.
        TypeError: x is not floating point.
    """
    check_pair(x, None, ndim=2)
    n = x.shape[0]
    if n == 0:
        raise ValueError(f"the Vendi score needs at least one row, got x {tuple(x.shape)}")
    if not q >= 0:
        raise ValueError(f"q must be a number >= 0, got {q}")
    (x,) = to_float(x)
    if q == 2:
        return (n * n / _smaller_gram(_directions(x)).square().sum()).clamp(1, n)
    eigenvalues = _eigenvalues(x, q) / n
    # Rounding leaves eigenvalues that should be zero at about 1e-16; a small order would count them. In
    # float32 they are within the stated error.
    rounding = eigenvalues.shape[0] * torch.finfo(torch.float64).eps
    positive = eigenvalues > rounding
    eigenvalues = torch.where(positive, eigenvalues, 1.0)
    if q == 1:
        score = (-(eigenvalues * eigenvalues.log()).sum()).exp()
    elif math.isinf(q):
        score = 1 / torch.where(positive, eigenvalues, 0.0).max()
    else:
        score = torch.where(positive, eigenvalues.pow(q), 0.0).sum().log().div(1 - q).exp()
    return score.clamp(1, n).to(x.dtype)

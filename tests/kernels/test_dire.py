"""DiRe's terms in their three readings: golden values, the definition, and the released call."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend
from torchmetrics.functional.pairwise import pairwise_cosine_similarity, pairwise_euclidean_distance

from fastdd_kernels.dire import (
    Reading,
    RealEmbeddings,
    dire_loss,
    dire_terms,
    dire_terms_reference,
    diversity_loss,
)

READINGS = ("clean", "code", "paper")
S = torch.tensor([[1.0, 2, 2], [2, 1, 2]], dtype=torch.float64)
R = torch.tensor([[2.0, 2, 1], [0, 3, 4], [1, 0, 0], [3, 0, 4]], dtype=torch.float64)
GOLDEN = {
    "paper": (3.7777778, -5.1111111, 19.9335267),
    "code": (0.4444444, 0.4388889, 1.8819014),
    "clean": (0.8888889, 0.2361111, 2.4916908),
}


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def leaf(tensor: Tensor) -> Tensor:
    return tensor.detach().clone().requires_grad_()


@pytest.mark.parametrize("reading", READINGS)
def test_golden(reading: Reading) -> None:
    for terms in (dire_terms_reference(S, R, reading), dire_terms(S[None], R[None], reading)):
        assert [term.item() for term in terms] == pytest.approx(GOLDEN[reading], abs=6e-8)


def test_golden_loss_of_the_released_code() -> None:
    assert dire_loss(S[None], R[None], reading="code").item() == pytest.approx(0.0902152, abs=6e-8)
    assert diversity_loss(S, [R], images_per_class=2).item() == pytest.approx(0.0902152, abs=6e-8)


@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("weights", [each for each in itertools.product((0.0, 0.7), repeat=3) if any(each)])
def test_the_terms_are_weighed_one_by_one(reading: Reading, weights: tuple[float, float, float]) -> None:
    """The seven combinations of Table 14, values and gradients, against the definition."""
    x, real = leaf(randn(2, 3, 5)), randn(2, 6, 5, seed=1)
    r_cd, r_cdm, r_edm = weights
    loss = dire_loss(x, real, r_cd=r_cd, r_cdm=r_cdm, r_edm=r_edm, reading=reading)
    expected = torch.zeros((), dtype=torch.float64)
    for rows, own in zip(x, real, strict=True):
        terms = dire_terms_reference(rows, own, reading)
        expected = expected + sum(r * term for r, term in zip(weights, terms, strict=True))
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=1e-12)
    ours, theirs = (torch.autograd.grad(value, x)[0] for value in (loss, expected))
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize(
    ("n", "m", "D"), [(1, 1, 1), (1, 6, 4), (6, 1, 4), (5, 5, 9), (4, 30, 3), (30, 4, 70)]
)
def test_terms_and_gradients_are_the_definition(reading: Reading, n: int, m: int, D: int) -> None:
    # Features of either sign, so that |cos| acts.
    x, real = leaf(randn(3, n, D)), randn(3, m, D, seed=1) + 0.3
    terms = dire_terms(x, real, reading)
    reference = [dire_terms_reference(a, b, reading) for a, b in zip(x, real, strict=True)]
    for index, term in enumerate(terms):
        expected = torch.stack([per_class[index] for per_class in reference])
        torch.testing.assert_close(term, expected, rtol=1e-12, atol=1e-12)
        if not term.requires_grad:
            assert (n, index) == (1, 0)  # the cosine of a row with no other
            continue
        upstream = randn(3, seed=index)
        ours = torch.autograd.grad(term, x, upstream, retain_graph=True)[0]
        theirs = torch.autograd.grad(expected, x, upstream, retain_graph=True)[0]
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("reading", READINGS)
def test_classes_of_unequal_size(reading: Reading) -> None:
    x, real = leaf(randn(3, 5, 8)), [randn(size, 8, seed=size) + 1 for size in (7, 2, 20)]
    together = dire_terms(x, RealEmbeddings.prepare(real), reading)
    for index in range(3):
        alone = dire_terms(x[index : index + 1], real[index][None], reading)
        for term, expected in zip(together, alone, strict=True):
            torch.testing.assert_close(term[index], expected[0], rtol=1e-12, atol=1e-12)
            ours, theirs = (
                torch.autograd.grad(v, x, retain_graph=True)[0] for v in (term[index], expected[0])
            )
            torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("reading", READINGS)
def test_float32_is_within_rounding(reading: Reading) -> None:
    # Tight features far from the origin: the cosines lie near 1 and the squared distances cancel.
    x, real = 5 + 0.1 * randn(2, 6, 512), 5 + 0.1 * randn(2, 80, 512, seed=1)
    x, real = x.float(), real.float()
    terms = dire_terms(x, real, reading)
    truth = dire_terms(x.double(), real.double(), reading)
    pairs = 6 * 80 if reading == "paper" else 1
    for term, expected, budget in zip(terms, truth, (5e-7, 5e-7, 2e-6), strict=True):
        assert term.dtype == torch.float32
        assert ((term.double() - expected).abs() <= budget * pairs).all()


@pytest.mark.parametrize("reading", READINGS)
def test_gradients_are_finite_for_equal_and_zero_rows(reading: Reading) -> None:
    real = randn(2, 6, 5, seed=1).relu().float()
    x = randn(2, 4, 5).relu().float()
    x[0, 1], x[0, 2], x[1] = x[0, 0], real[0, 3], 0
    real[1, 2] = 0
    x = leaf(x)
    loss = dire_loss(x, real, r_cd=1.0, r_cdm=1.0, r_edm=1.0, reading=reading)
    assert loss.isfinite()
    (grad,) = torch.autograd.grad(loss, x)
    assert grad.isfinite().all()
    assert (grad[0] != 0).any()


def test_loss_does_not_depend_on_the_split_over_batches() -> None:
    x, bank = randn(6, 4, 8), RealEmbeddings.prepare(list(randn(6, 9, 8, seed=1)))
    parts = dire_loss(x[:2], bank.select(slice(0, 2))) + dire_loss(x[2:], bank.select([2, 3, 4, 5]))
    torch.testing.assert_close(dire_loss(x, bank), parts)
    order = torch.tensor([5, 0, 3])
    torch.testing.assert_close(
        dire_loss(x[order], bank.select(order)), dire_loss(x[order], randn(6, 9, 8, seed=1)[order])
    )


def test_released_call_on_a_batch() -> None:
    start, ipc, real = 2, 3, [randn(size, 8, seed=size).abs() for size in (5, 9, 2, 7, 6)]
    x = leaf(randn(2 * ipc, 8).abs())
    expected = torch.zeros((), dtype=x.dtype)
    for index in range(2):
        rows, own = x[index * ipc : (index + 1) * ipc], real[start + index]
        within = pairwise_cosine_similarity(rows, zero_diagonal=True).abs().mean()
        across = (1 - pairwise_cosine_similarity(rows, own, zero_diagonal=True)).abs().mean()
        expected = expected + within + across
        expected = expected + 0.01 * pairwise_euclidean_distance(rows, own, zero_diagonal=True).mean()
    for bank in (real, RealEmbeddings.prepare(real)):
        loss = diversity_loss(x, bank, ipc, start)
        torch.testing.assert_close(loss, 0.1 * expected, rtol=1e-12, atol=0)
        ours, theirs = (torch.autograd.grad(v, x, retain_graph=True)[0] for v in (loss, 0.1 * expected))
        torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-13)


def test_precision_follows_the_inputs() -> None:
    x, real = randn(2, 3, 8), randn(2, 5, 8, seed=1)
    bank = RealEmbeddings.prepare(real.half())
    assert bank.centered.dtype == torch.float32
    assert dire_loss(x.half(), bank).dtype == torch.float32
    assert dire_loss(x, bank).dtype == torch.float64
    assert dire_loss(x.half(), bank.to(dtype=torch.float64)).dtype == torch.float64
    assert bank.to("meta").square.is_meta
    assert not RealEmbeddings.prepare(leaf(real)).centered.requires_grad


def test_second_derivative() -> None:
    x, real = leaf(randn(2, 3, 4)), randn(2, 5, 4, seed=1)
    assert torch.autograd.gradgradcheck(lambda a: dire_loss(a, real), (x,))


@pytest.mark.parametrize("reading", READINGS)
def test_compiles_in_one_graph(reading: Reading) -> None:
    bank = RealEmbeddings.prepare([randn(size, 8, seed=size).float() for size in (7, 2, 20)])
    x = leaf(randn(3, 5, 8).float())

    def loss(embeddings: Tensor) -> Tensor:
        return dire_loss(embeddings.relu(), bank, r_cd=1.0, r_cdm=1.0, r_edm=1.0, reading=reading)

    eager, compiled = loss(x), torch.compile(loss, fullgraph=True, backend="aot_eager")(x)
    torch.testing.assert_close(compiled, eager, rtol=1e-6, atol=1e-6)
    ours, theirs = (torch.autograd.grad(value, x)[0] for value in (compiled, eager))
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("reading", ["clean", "code"])
def test_compiles_once_for_any_number_of_rows(reading: Reading) -> None:
    torch._dynamo.reset()  # or what other tests made variable is variable from the start
    bank = RealEmbeddings.prepare(randn(3, 50, 8).float())
    counter = CompileCounterWithBackend("aot_eager")

    def loss(embeddings: Tensor) -> Tensor:
        return dire_loss(embeddings, bank, r_cd=1.0, r_cdm=1.0, r_edm=1.0, reading=reading)

    compiled = torch.compile(loss, fullgraph=True, backend=counter)
    for n in (5, 6, 8, 11):
        x = leaf(randn(3, n, 8, seed=n).float())
        torch.testing.assert_close(compiled(x), loss(x), rtol=1e-6, atol=1e-6)
    assert counter.frame_count <= 2  # the second makes the number of rows a variable


def test_bad_input_is_named() -> None:
    bank = RealEmbeddings.prepare(randn(2, 5, 8))
    with pytest.raises(ValueError, match=r"synthetic must be \[2, n, 8\].*got \(3, 4, 8\)"):
        dire_loss(randn(3, 4, 8), bank)
    with pytest.raises(ValueError, match="at least one synthetic row"):
        dire_loss(randn(2, 0, 8), bank)
    with pytest.raises(ValueError, match="'papers'"):
        dire_loss(randn(2, 4, 8), bank, reading="papers")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="'low'"):
        dire_loss(randn(2, 4, 8), bank, precision="low")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"\[\(4, 8\), \(0, 8\)\]"):
        RealEmbeddings.prepare([randn(4, 8), randn(0, 8)])
    with pytest.raises(ValueError, match=r"got \(4, 8\)"):
        RealEmbeddings.prepare(randn(4, 8))
    with pytest.raises(TypeError, match="float16"):
        bank.to(dtype=torch.float16)
    with pytest.raises(ValueError, match=r"whole classes, got \(5, 8\)"):
        diversity_loss(randn(5, 8), bank, images_per_class=2)
    with pytest.raises(ValueError, match="classes 1 to 2 are asked for, real has 2"):
        diversity_loss(randn(4, 8), bank, images_per_class=2, start_class=1)

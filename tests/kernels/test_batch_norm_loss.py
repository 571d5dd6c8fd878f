"""SRe2L's loss: golden values, groups and class-wise targets, gradients of both orders."""

from __future__ import annotations

import pytest
import torch
from kernel_checks import activation, assert_within, leaf, randn, with_gradient
from torch.utils._python_dispatch import TorchDispatchMode

from fastdd_kernels import (
    batch_moments,
    batch_norm_loss,
    batch_norm_loss_from_moments,
    batch_norm_losses,
    layer_columns,
    spatial_moments,
)
from fastdd_kernels.batch_norm_loss import batch_norm_loss_reference


def test_batch_norm_loss_golden_value() -> None:
    x = torch.arange(16.0).reshape(2, 2, 2, 2)
    mean, var = torch.tensor([4.0, 8.0]), torch.tensor([20.0, 16.0])
    batch_mean, batch_var = batch_moments(*spatial_moments(x, mean), mean)
    assert batch_mean.tolist() == [[5.5, 9.5]]
    assert batch_var.tolist() == [[17.25, 17.25]]
    torch.testing.assert_close(batch_norm_loss(x, mean, var), torch.tensor([5.1420818]), rtol=2e-7, atol=0)


@pytest.mark.parametrize("class_wise", [False, True])
@pytest.mark.parametrize("groups", [1, 2, 6])
def test_batch_norm_loss_and_gradient_equal_the_definition(groups: int, class_wise: bool) -> None:
    x = activation(6, 17, 4, 9)
    rows = (groups, 17) if class_wise else (17,)
    mean = 3 + 0.1 * randn(*rows, seed=1)
    var = 1 + mean.sin().square()
    truth = with_gradient(lambda x: (batch_norm_loss_reference(x, mean, var, groups),), x)
    actual = with_gradient(lambda x: (batch_norm_loss(x, mean.float(), var.float(), groups),), x.float())
    assert actual[0].shape == (groups,)
    assert_within(actual, truth, roundings=32)


def test_class_wise_targets_far_from_zero_lose_no_precision() -> None:
    x = 1000 + activation(4, 6, 8, 8)
    x = x.float().double()
    mean = torch.stack((x.mean((0, 2, 3)), x.mean((0, 2, 3)) + 0.5))
    var = torch.full((2, 6), 0.25).double()
    truth = batch_norm_loss_reference(x, mean, var, groups=2)
    actual = batch_norm_loss(x.float(), mean.float(), var.float(), groups=2)
    torch.testing.assert_close(actual.double(), truth, rtol=1e-4, atol=0)  # 1000 is known to 6e-5


def test_groups_are_batches_of_their_own() -> None:
    x = activation(6, 5, 4, 4)
    mean, var = torch.full((5,), 3.0), torch.ones(5)
    alone = torch.cat([batch_norm_loss(part, mean, var) for part in x.split(2)])
    torch.testing.assert_close(batch_norm_loss(x, mean, var, groups=3), alone, rtol=1e-13, atol=0)


def test_loss_at_its_target_has_zero_gradient_to_second_order() -> None:
    x = torch.tensor([1.0, -1.0, 1.0, -1.0], dtype=torch.float64).view(1, 1, 2, 2).requires_grad_()
    loss = batch_norm_loss(x, torch.zeros(1), torch.ones(1))
    (first,) = torch.autograd.grad(loss, x, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), x)
    assert loss.item() == 0
    assert not first.any()
    assert not second.any()


def test_double_backward() -> None:
    x = activation(4, 3, 2, 3).requires_grad_()
    mean, var = torch.full((3,), 2.0).double(), torch.full((3,), 3.0).double()
    assert torch.autograd.gradcheck(lambda x: batch_norm_loss(x, mean, var, 2), x)
    assert torch.autograd.gradgradcheck(lambda x: batch_norm_loss(x, mean, var, 2), x)


def test_bad_input_is_named() -> None:
    x, c = torch.zeros(4, 3, 2, 2), torch.zeros(3)
    with pytest.raises(ValueError, match=r"divide the 4 images.*got 3"):
        batch_norm_loss(x, c, c, groups=3)
    with pytest.raises(ValueError, match=r"running_var must be \[3\].*\(2, 3\)"):
        batch_norm_loss(x, c, c.expand(2, 3), groups=4)
    with pytest.raises(ValueError, match="give the shift"):
        batch_norm_loss_from_moments(x[..., 0, 0], x[..., 0, 0], c.expand(2, 3), c, groups=2)
    with pytest.raises(ValueError, match="divide the 0 images"):
        batch_norm_loss(x[:0], c, c)


@pytest.mark.parametrize("class_wise", [False, True])
@pytest.mark.parametrize("groups", [1, 3])
def test_all_layers_together_have_the_bits_of_each_alone(groups: int, class_wise: bool) -> None:
    widths = (16, 3, 130)
    moments = [[leaf(randn(15, C, seed=C + i).float().square()) for i in (0, 1)] for C in widths]
    rows = (groups,) if class_wise else ()
    shift, mean, var = (
        [randn(*shape, C, seed=i).float() for C in widths] for i, shape in enumerate(((), rows, rows))
    )
    together = batch_norm_losses(
        [(a, b) for a, b in moments],
        torch.cat(mean, -1),
        torch.cat(var, -1),
        torch.cat(shift),
        groups=groups,
        variance_weight=11.0,
    )
    assert together.shape == (3, groups)
    inputs = [moment for layer in moments for moment in layer]
    gradients = torch.autograd.grad(together.sum(), inputs)
    for i, layer in enumerate(moments):
        alone = batch_norm_loss_from_moments(
            *layer, mean[i], var[i], groups=groups, shift=shift[i], variance_weight=11.0
        )
        assert torch.equal(together[i], alone)
        for a, b in zip(gradients[2 * i :], torch.autograd.grad(alone.sum(), layer), strict=False):
            assert torch.equal(a, b)


@pytest.mark.parametrize("class_wise", [False, True])
@pytest.mark.parametrize("groups", [1, 3])
def test_layers_that_are_added_up_at_once_have_the_same_losses(groups: int, class_wise: bool) -> None:
    widths = (16, 3, 130)
    moments = [[leaf(randn(15, C, seed=C + i).square()) for i in (0, 1)] for C in widths]
    rows = (groups, sum(widths)) if class_wise else (sum(widths),)
    mean, var, shift = randn(*rows, seed=0), randn(*rows, seed=1), randn(sum(widths), seed=2)
    results = []
    for columns in (None, layer_columns(widths)):
        losses = batch_norm_losses(
            [(a, b) for a, b in moments],
            mean,
            var,
            shift,
            groups=groups,
            variance_weight=11.0,
            columns=columns,
        )
        inputs = [moment for layer in moments for moment in layer]
        weights = randn(*losses.shape, seed=3)
        results.append((losses, *torch.autograd.grad((losses * weights).sum(), inputs)))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-13)


def test_a_layer_more_costs_no_operation_where_they_are_added_up_at_once() -> None:
    def count(layers: int) -> int:
        x = [leaf(randn(6, 4).float()) for _ in range(2 * layers)]
        row, columns = torch.ones(4 * layers), layer_columns([4] * layers)
        moments = list(zip(x[::2], x[1::2], strict=True))
        with Counter() as counter:
            losses = batch_norm_losses(moments, row, row, row, columns=columns)
            torch.autograd.grad(losses.sum(), x)
        return counter.count

    assert count(20) == count(10) <= 60


class Counter(TorchDispatchMode):
    """Counts the operations that are no views."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        self.count += not func.is_view
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("groups", [1, 3])
def test_a_layer_more_costs_three_operations_more(groups: int) -> None:
    def count(layers: int) -> int:
        x = leaf(randn(6, 4).float())
        row = torch.ones(4 * layers)
        with Counter() as counter:
            batch_norm_losses([(x, x)] * layers, row, row, row, groups=groups).sum().backward()
        return counter.count

    # three sums, and the additions to the gradient of the x that all of them share
    assert count(20) - count(10) == 10 * (3 + 2)
    assert count(1) <= 55


def test_losses_of_layers_that_do_not_fit_are_named() -> None:
    x, row = torch.zeros(4, 3), torch.zeros(6)
    with pytest.raises(ValueError, match="no layers"):
        batch_norm_losses([], row, row, row)
    with pytest.raises(ValueError, match=r"running_mean must be \[6\].*\(3,\)"):
        batch_norm_losses([(x, x)] * 2, row[:3], row, row)
    with pytest.raises(ValueError, match=r"shift must be \[6\].*\(3,\)"):
        batch_norm_losses([(x, x)] * 2, row, row, row[:3])

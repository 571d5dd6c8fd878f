"""What torch hands from the forward pass of an operator to its backward pass, as a type.

torch declares this ``ctx`` as anything; here it has the members that the operators of this package use.
"""

from __future__ import annotations

from typing import Protocol, TypeVar

from torch import Tensor

Options = TypeVar("Options")


class Context(Protocol[Options]):
    """The ``ctx`` of ``setup_context`` and ``backward``.

    Attributes:
        options: the arguments that are no tensors; the operator sets them in ``setup_context``.
        saved_tensors: what was given to ``save_for_backward``; None where None was given.
        needs_input_grad: whether each argument needs a gradient.
    """

    options: Options

    @property
    def saved_tensors(self) -> tuple[Tensor, ...]: ...

    @property
    def needs_input_grad(self) -> tuple[bool, ...]: ...

    def save_for_backward(self, *tensors: Tensor | None) -> None:
        """Keep tensors for the backward pass."""

    def mark_non_differentiable(self, *outputs: Tensor) -> None:
        """Say that these outputs have no gradient."""

    def set_materialize_grads(self, value: bool) -> None:
        """Whether an output without a gradient gets zeros (the default) or None."""

"""Terms of the user's own are tried once before any arm is recovered, so that a fault in one costs no hours.

fastdd's own terms are not tried: their tests do that.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn

from ..config import Recover, Terms
from ..config.terms import TERMS
from ..errors import InputError
from ..models.build import as_input
from ..runtime.precision import autocast
from ..runtime.seeds import generator
from .plan import Unit
from .terms.base import AnyTerm, Context, naming, term_class


def own_terms(terms: Terms) -> list[str]:
    """Names of the terms that are not fastdd's."""
    return [name for name in terms if not term_class(name).__module__.startswith(f"{TERMS.package}.")]


def try_terms(
    terms: Terms, context: Context, unit: Unit, config: Recover, size: tuple[int, int, int]
) -> None:
    """Call each term that is not fastdd's once, on noise, as a term of its own that is thrown away.

    Raises:
        InputError: a term raises an exception, has targets that are no tensors, or returns anything but its
            declared values as scalar tensors; the term is named.
    """
    names = own_terms(terms)
    device = next(context.taps.parameters()).device
    noise = torch.randn(len(unit.rows), *size, generator=generator(context.seed, "trial"))
    images = noise.to(device).requires_grad_()
    with autocast(device, config.precision):
        features = context.taps(as_input(images, context.taps))
    for name in names:
        with naming(f"term {name!r}"):
            term: AnyTerm = term_class(name)(terms[name], context)
            targets = term.targets(unit)
            _require_tensors(targets)
            values = term(features, images, targets)
            _require_values(values, term, device)
            if len(terms) == 1 and not any(value.requires_grad for value in values.values()):
                raise InputError(
                    "its values do not depend on the images, and there is no other term to optimize; compute "
                    "them from the features or the images, without detach()"
                )


def _require_tensors(targets: object) -> None:
    """Refuse targets that are no tensors; a module or a dataclass keeps its tensors itself."""
    if targets is None or isinstance(targets, Tensor | nn.Module) or dataclasses.is_dataclass(targets):
        return
    if isinstance(targets, dict):
        targets = list(targets.values())
    if not isinstance(targets, list | tuple):
        raise InputError(
            f"its targets contain {targets!r:.60} ({type(targets).__name__}), expected tensors, or tuples, "
            f"lists and None around them; convert it with torch.as_tensor"
        )
    for each in targets:
        _require_tensors(each)


def _require_values(values: object, term: AnyTerm, device: torch.device) -> None:
    """Refuse what is no mapping of the declared names to scalars."""
    declared = ", ".join(map(repr, term.labels))
    if not isinstance(values, dict) or not values:
        got = "an empty dict" if isinstance(values, dict) else f"a {type(values).__name__}"
        raise InputError(f"it returns {got}, expected a dict of scalar tensors with the keys {declared}")
    for key, value in values.items():
        if key not in term.labels:
            raise InputError(
                f"it returns a value {key!r}, expected those of its `labels`: {declared}; add the name to "
                f"`labels`, or correct it"
            )
        if not isinstance(value, Tensor):
            raise InputError(f"its value {key!r} is a {type(value).__name__}, expected a scalar tensor")
        if value.ndim or not value.is_floating_point() or value.device != device:
            raise InputError(
                f"its value {key!r} is a tensor {list(value.shape)} of {value.dtype} on {value.device}, "
                f"expected a floating-point scalar [] on {device}; sum over the unit, as with .sum()"
            )

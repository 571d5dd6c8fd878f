"""The networks that have a name, and how to add one.

A file of this folder registers the networks that it defines; another package names a builder in the
entry-point group ``fastdd.networks``; a program calls ``fastdd.register_network``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Container
from dataclasses import dataclass

from torch import nn

from ..errors import InputError
from ..runtime.registry import Registry

Builder = Callable[..., nn.Module]
"""A function or class that returns an untrained network, and takes ``num_classes`` and ``channels`` by
keyword. It may leave out one of the two, or both; further parameters need defaults."""


@dataclass(frozen=True)
class Network:
    """A builder with what else is to be said of its network.

    Attributes:
        paper_name: the name by which papers mean this network for some sizes of images, such as ``resnet18``
            for ``resnet18_small``. None: papers use its own name.
        sides: the sides in pixels of the images for which ``paper_name`` means this network.
        auxiliary: prefixes of tensors in files of its weights that belong to auxiliary classifiers, which are
            not built.
    """

    builder: Builder
    paper_name: str | None = None
    sides: Container[int] = ()
    auxiliary: tuple[str, ...] = ()


class Networks(Registry[Network]):
    """Networks by name."""

    def register(self, name: str, thing: Network | Builder) -> None:
        """Add a network, or its builder alone; see register_network."""
        super().register(name, thing if isinstance(thing, Network) else Network(thing))

    def _check(self, name: str, thing: Network) -> None:
        call_arguments(f"the builder of network {name!r}", thing.builder)


NETWORKS = Networks("network", "fastdd.models", "fastdd.networks")


def register_network(name: str, builder: Network | Builder) -> None:
    """Add a network to this process, by its builder or as a Network; see ``fastdd.register_network``."""
    NETWORKS.register(name, builder)


def call_arguments(what: str, builder: object) -> frozenset[str]:
    """Which of ``num_classes`` and ``channels`` a builder takes by keyword.

    Raises:
        InputError: it cannot be called, or needs other arguments too.
    """
    if not callable(builder) or isinstance(builder, nn.Module):
        kind = type(builder).__name__
        raise InputError(f"{what} is a {kind}, expected a function that returns an nn.Module")
    try:
        parameters = inspect.signature(builder).parameters.values()
    except (TypeError, ValueError) as error:
        raise InputError(f"{what} has no signature ({error}); wrap it in a function of your own") from error
    offered = frozenset({"num_classes", "channels"})
    by_keyword = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    takes = frozenset(p.name for p in parameters if p.kind in by_keyword) & offered
    for parameter in parameters:
        required = parameter.default is inspect.Parameter.empty and parameter.kind not in variadic
        if required and parameter.name not in takes:
            raise InputError(
                f"{what} needs an argument {parameter.name!r}, but is called with num_classes and channels "
                f"alone; give {parameter.name!r} a default"
            )
    return offered if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters) else takes

"""The networks that have a name, what papers call them, and how to add one.

A file of this folder registers the networks that it defines; another package names a builder in the
entry-point group ``fastdd.networks``; a program calls ``fastdd.register_network``.

The names that papers give to students mean other networks for small images than for large ones. Up to 64
pixels ``resnet18`` means ``resnet18_small``, as in every paper of the field; ``convnet`` means the one whose
depth leaves 4 x 4 pixels, and ``vit`` a small one. Networks say so themselves (Network.paper_name).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Container, Sequence
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


PAPERS = (
    "resnet18",
    "resnet50",
    "resnet101",
    "vgg11",
    "vgg16",
    "mobilenet_v2",
    "efficientnet_b0",
    "shufflenet_v2_x0_5",
    "convnet",
    "vit",
)
"""The students of the papers' cross-architecture tables, which ``papers`` stands for."""
TABLES = {
    "deda": {
        range(1, 65): (
            "resnet50",
            "mobilenet_v2",
            "efficientnet_b0",
            "shufflenet_v2_x0_5",
            "vgg16",
        ),  # Table 3
        range(65, 1025): ("resnet18", "resnet50", "resnet101"),  # Table 2
    },
    "dire": {
        range(1, 33): ("resnet50", "resnet101", "vgg16", "mobilenet_v2", "vit"),  # Table 10
        range(33, 65): ("vgg16", "vit"),  # Table 11
        range(65, 1025): ("mobilenet_v2", "shufflenet_v2_x0_5"),  # Table 12
    },
}
"""name of a paper -> sides of images in pixels -> the students of its table of such images"""
LARGE_IMAGES = {"vit": "vit_b_16"}
"""What a name means where no network claims it for the size of the images."""


def students(names: Sequence[str], side: int) -> list[str]:
    """Names of networks for names of students, each once.

    Args:
        names: names of students; ``papers`` stands for those of PAPERS that take images of this size,
            ``deda`` and ``dire`` for those of that paper's table of such images.
        side: side of the images, in pixels.
    """
    found = []
    for name in names:
        if name == "papers":
            meant = (student(each, side) for each in PAPERS)
            found += [network for network in meant if network in NETWORKS]
        elif name in TABLES:
            of_paper = next((each for sides, each in TABLES[name].items() if side in sides), ())
            found += [student(each, side) for each in of_paper]
        else:
            found.append(student(name, side))
    return list(dict.fromkeys(found))


def student(name: str, side: int) -> str:
    """The network that a student's name means for images of ``side`` pixels; other names mean themselves."""
    for own_name in NETWORKS:
        network = NETWORKS[own_name]
        if network.paper_name == name and side in network.sides:
            return own_name
    return LARGE_IMAGES.get(name, name)

"""What a term is, what it may ask for, and the terms of a recipe put together.

A term is one class, in a file of its own, that says everything about itself: its configuration in recipes, what figures
call its values, what it needs of the teacher and of the bank, and how it is computed. ``register_term`` makes it known.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar, cast

from torch import Tensor, nn

from ...bank import Bank
from ...config import Bank as BankConfig
from ...config import Config, Terms
from ...config.terms import TERMS
from ...errors import InputError
from ...teachers import Features, Taps
from ..plan import Unit

Shape = tuple[int, int, int]
"""batches, classes a batch, slots a batch"""
Values = dict[str, Tensor]
"""named, weighted values, each summed over the unit"""
C = TypeVar("C", bound=Config)
T = TypeVar("T")


@dataclass(frozen=True)
class Needs:
    """What terms read of a teacher's forward pass and of its bank; layer names are those of teachers/taps.py.

    Attributes:
        pooled: layers of which the spatial mean of each image is noted.
        moments: layers of whose input the moments are noted; ``bn.<i>`` or ``conv.<i>``.
        gaussians: layers of which the bank holds mean and covariance of each class.
        class_batch_norm: the bank holds the BatchNorm statistics of each class.
        patch: side in pixels of the patches whose statistics are noted, and held by the bank; None: none.
        embeddings: the bank holds embeddings of real images.
    """

    pooled: tuple[str, ...] = ()
    moments: tuple[str, ...] = ()
    gaussians: tuple[str, ...] = ()
    class_batch_norm: bool = False
    patch: int | None = None
    embeddings: bool = False

    @staticmethod
    def together(needs: Iterable[Needs]) -> Needs:
        """All that several terms need.

        Raises:
            InputError: patches of two sides, for which a teacher has one bank.
        """
        needs = list(needs)
        sides = {each.patch for each in needs if each.patch is not None}
        if len(sides) > 1:
            raise InputError(
                f"a run has one bank, with patches of one side, got {sorted(sides)}; give all terms.conv.patch one value"
            )
        return Needs(
            pooled=_distinct(each.pooled for each in needs),
            moments=_distinct(each.moments for each in needs),
            gaussians=_distinct(each.gaussians for each in needs),
            class_batch_norm=any(each.class_batch_norm for each in needs),
            patch=next(iter(sides), None),
            embeddings=any(each.embeddings for each in needs),
        )

    def of_bank(self, config: BankConfig) -> BankConfig:
        """The bank of a recipe, with all that is needed of it.

        Raises:
            InputError: the recipe asks for a bank without it.
        """
        if self.embeddings and config.embeddings == 0:
            raise InputError(
                "an arm's terms compare with embeddings of real images, but bank.embeddings is 0; set it to all"
            )
        if self.patch is not None and config.patch not in (None, self.patch):
            raise InputError(
                f"a run has one bank, with patches of one side, but bank.patch is {config.patch} and the arms' terms "
                f"need {self.patch}; give both one value"
            )
        class_bn = "true" if self.class_batch_norm and config.class_bn == "none" else config.class_bn
        return config.model_copy(update={"class_bn": class_bn, "patch": self.patch or config.patch})


def _distinct(names: Iterable[Iterable[str]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for each in names for name in each))


@dataclass(frozen=True)
class Context:
    """What a term is computed for.

    Attributes:
        shape: shape of the units.
        network: the teacher, without taps.
        taps: the frozen teacher with taps, which gives the features.
        bank: the statistics of the real images through that teacher.
        seed: of all randomness.
    """

    shape: Shape
    network: nn.Module
    taps: Taps
    bank: Bank
    seed: int


class Term(ABC, Generic[C, T]):
    """One part of the objective, for units of one shape; T is the type of its targets, a nest of tensors.

    Attributes:
        configuration: its section in recipes, ``terms.<name>``.
        labels: name of each of its values -> what figures and the report call it.
        position: its place among the terms of an objective. They are added up in this order, then in that of their
            names, so the last digits of all images depend on it.
        excludes: terms beside which it cannot stand -> why.
    """

    configuration: ClassVar[type[Config]]
    labels: ClassVar[Mapping[str, str]]
    position: ClassVar[int] = 100
    excludes: ClassVar[Mapping[str, str]] = {}

    def __init__(self, config: C, context: Context) -> None:
        self.config, self.context, self.shape = config, context, context.shape
        self.device = next(context.taps.parameters()).device

    @classmethod
    def needs(cls, config: C, network: nn.Module) -> Needs:
        """What it reads of the forward pass of a network and of the bank, beside logits and embedding.

        Raises:
            InputError: the network lacks it.
        """
        return Needs()

    @abstractmethod
    def targets(self, unit: Unit) -> T:
        """What the unit's classes ask for: tensors on the teacher's device, of the same shapes for all units."""

    @abstractmethod
    def __call__(self, features: Features, images: Tensor, targets: T) -> Values:
        """Its values for the features of the augmented images [N, C, H, W]; the compiler traces this."""


AnyTerm = Term[Any, Any]


def register_term(name: str, term: type[AnyTerm]) -> None:
    """Make a term known as ``terms.<name>`` of recipes.

    Raises:
        InputError: the name is taken or no identifier, or the class is no term; the message says what it lacks.
    """
    TERMS.register(name, term)


def term_class(name: str) -> type[AnyTerm]:
    """The class of a registered term."""
    return cast("type[AnyTerm]", TERMS[name])


def needs(terms: Terms, network: nn.Module) -> Needs:
    """What all terms of an objective need together.

    Raises:
        InputError: the network lacks it.
    """
    return Needs.together(term_class(name).needs(config, network) for name, config in terms.items())


def tapped(terms: Terms, network: nn.Module) -> Taps:
    """The network with taps for all that the terms need."""
    needed = needs(terms, network)
    layers = (*needed.moments, *needed.pooled)
    return Taps(network, layers, moments=bool(needed.moments), patch=needed.patch or 1)


def build_terms(terms: Terms, context: Context) -> list[AnyTerm]:
    """The terms of an objective, in the order in which they are added up."""
    return [term_class(name)(config, context) for name, config in terms.items()]


def by_class(x: Tensor, shape: Shape) -> Tensor:
    """[N, D] -> [classes in all batches, slots, D]"""
    return x.view(-1, shape[2], x.shape[1])

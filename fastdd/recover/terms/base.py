"""What a term is, what it may ask for, and how the terms of a recipe become an objective.

A term is one class, in a file of its own, that says everything about itself: its configuration in recipes,
the labels of its values in figures, what it needs of the teacher and of the bank, and how it is computed.
``register_term`` makes it known.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Literal, TypeVar, cast

from torch import Tensor, nn

from ...bank import Bank
from ...config import Bank as BankConfig
from ...config import Config, Method, Terms
from ...config.terms import TERMS
from ...errors import InputError
from ...teachers import Features, Taps
from ..plan import Unit

Shape = tuple[int, int, int]
"""(batches, classes a batch, slots a batch) of a unit"""
Values = dict[str, Tensor]
"""name -> weighted value, a scalar summed over the unit"""
ClassBatchNorm = Literal["none", "true", "running"]
C = TypeVar("C", bound=Config)
T = TypeVar("T")


@dataclass(frozen=True)
class Needs:
    """What terms read of a teacher's forward pass and of its bank; layer names are those of teachers/taps.py.

    Attributes:
        pooled: layers whose spatial means the forward pass records.
        moments: layers, ``bn.<i>`` or ``conv.<i>``, the moments of whose inputs the forward pass records.
        gaussians: layers whose mean and covariance in each class the bank must hold.
        class_batch_norm: which BatchNorm statistics of each class the bank must hold, as ``bank.class_bn``.
        patch: side in pixels of the patches whose statistics both must hold; None: no patches are needed.
        embeddings: how many embeddings of real images of each class the bank must hold at least.
        maps: layers, ``blocks.<i>`` or ``stages.<i>``, whose outputs the forward pass records pixel by pixel.
        end: the layer, among ``pooled`` and ``maps``, behind which the term reads nothing; None: it may read
            logits, embedding or any other layer.
    """

    pooled: tuple[str, ...] = ()
    moments: tuple[str, ...] = ()
    gaussians: tuple[str, ...] = ()
    class_batch_norm: ClassBatchNorm = "none"
    patch: int | None = None
    embeddings: int = 0
    maps: tuple[str, ...] = ()
    end: str | None = None

    @staticmethod
    def together(needs: Iterable[Needs]) -> Needs:
        """The union of what several terms need.

        Raises:
            InputError: they need patches of different sides or class statistics of two kinds, and a bank has
                one.
        """
        needs = list(needs)
        kinds = sorted({each.class_batch_norm for each in needs} - {"none"})
        if len(kinds) > 1:
            raise InputError(
                "a run has one bank, with class-wise BatchNorm statistics of one kind, but terms.bn.target "
                "is class in one arm and class_running in another; give all one value"
            )
        sides = {each.patch for each in needs if each.patch is not None}
        if len(sides) > 1:
            raise InputError(
                f"a run has one bank, with patches of one side, got {sorted(sides)}; "
                f"give all terms.conv.patch one value"
            )
        ends = {each.end for each in needs}
        return Needs(
            pooled=_distinct(each.pooled for each in needs),
            moments=_distinct(each.moments for each in needs),
            gaussians=_distinct(each.gaussians for each in needs),
            class_batch_norm=kinds[0] if kinds else "none",
            patch=next(iter(sides), None),
            embeddings=max((each.embeddings for each in needs), default=0),
            maps=_distinct(each.maps for each in needs),
            end=ends.pop() if len(ends) == 1 else None,
        )

    def of_bank(self, config: BankConfig) -> BankConfig:
        """The bank section of a recipe, extended by what the terms need.

        Raises:
            InputError: the recipe sets a value that excludes what they need.
        """
        if config.embeddings != "all" and config.embeddings < self.embeddings:
            number = f"{self.embeddings} " if self.embeddings > 1 else ""
            raise InputError(
                f"an arm's terms compare with {number}embeddings of real images of each class, but "
                f"bank.embeddings is {config.embeddings}; set it to all"
            )
        if self.patch is not None and config.patch not in (None, self.patch):
            raise InputError(
                f"a run has one bank, with patches of one side, but bank.patch is {config.patch} and the "
                f"arms' terms need {self.patch}; give both one value"
            )
        class_bn = config.class_bn if self.class_batch_norm == "none" else self.class_batch_norm
        if config.class_bn not in ("none", class_bn):
            raise InputError(
                f"bank.class_bn is {config.class_bn}, but the arms' terms.bn.target takes {class_bn}; leave "
                f"bank.class_bn out, or set the target to "
                f"{'class' if config.class_bn == 'true' else 'class_running'}"
            )
        return config.model_copy(update={"class_bn": class_bn, "patch": self.patch or config.patch})


def _distinct(names: Iterable[Iterable[str]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for each in names for name in each))


@dataclass(frozen=True)
class Context:
    """The units, the teacher and the bank that a term is built for.

    Attributes:
        network: the teacher without taps.
        taps: the frozen teacher with taps, which gives the features.
        bank: the statistics of the real images through that teacher.
        seed: the run's seed, from which a term derives its draws.
    """

    shape: Shape
    network: nn.Module
    taps: Taps
    bank: Bank
    seed: int


class Term(ABC, Generic[C, T]):
    """One part of the objective, for units of one shape.

    C is the type of its configuration, T the type of its targets: tensors, or tuples, lists and None around
    them.

    Attributes:
        configuration: the type of its section in recipes, ``terms.<name>``.
        labels: name of each of its values -> label in figures and the report.
        position: its place in the sum. Terms are added in this order, and those of one position in the order
            of their names; the rounding of all images depends on it.
        excludes: name of a term that cannot be combined with it -> the reason.
        waits: whether the host waits for the GPU in its call; a step that waits cannot be a CUDA graph.
        one_size: whether its targets hold for images of one size alone, which excludes ``method.sizes``.
        paired: whether it compares images with those that they started from, whose features, after the same
            augmentation and without a gradient, are then ``features.anchors``.
    """

    configuration: ClassVar[type[Config]]
    labels: ClassVar[Mapping[str, str]]
    position: ClassVar[int] = 100
    excludes: ClassVar[Mapping[str, str]] = {}
    waits: ClassVar[bool] = False
    one_size: ClassVar[bool] = False
    paired: ClassVar[bool] = False

    def __init__(self, config: C, context: Context) -> None:
        self.config, self.context, self.shape = config, context, context.shape
        self.device = next(context.taps.parameters()).device

    @classmethod
    def beside(cls, config: C, terms: Mapping[str, Config]) -> C:
        """The configuration among the other terms of an objective, by which words in it become numbers."""
        return config

    @classmethod
    def remark(cls, config: C, terms: Mapping[str, Config]) -> str:
        """What a reader of a run's log should know of the term among the others, as a clause; empty:
        nothing."""
        return ""

    @classmethod
    def needs(cls, config: C, network: nn.Module) -> Needs:
        """What the term reads of the forward pass and of the bank, beside logits and embedding.

        Raises:
            InputError: the network lacks a layer that the term needs.
        """
        return Needs()

    @abstractmethod
    def targets(self, unit: Unit) -> T:
        """The targets of a unit's classes, on the teacher's device; all units have the same shapes."""

    def continued(self, targets: T, before: T) -> T:
        """The targets of a round (DELT), from those of its active images and those of the round before it.

        A term that remembers its steps takes its memory over.
        """
        return targets

    @abstractmethod
    def __call__(self, features: Features, images: Tensor, targets: T) -> Values:
        """The term's values for the features of augmented images [N, C, H, W]; torch.compile traces this."""


AnyTerm = Term[Any, Any]
"""a term whose configuration and targets have types that only the term itself knows"""


def register_term(name: str, term: type[AnyTerm]) -> None:
    """Make a term known as ``terms.<name>`` in recipes; see ``fastdd.register_term``."""
    TERMS.register(name, term)


def term_class(name: str) -> type[AnyTerm]:
    """The class of a registered term."""
    return cast("type[AnyTerm]", TERMS[name])


@contextmanager
def naming(key: str) -> Iterator[None]:
    """Whatever goes wrong inside, in a term that may be anybody's code, is one InputError that begins with
    the key."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{key}: {error}") from error
    except Exception as error:
        raise InputError(f"{key}: its code raises {type(error).__name__}: {error}; mend it") from error


def needs_by_key(terms: Terms, network: nn.Module, section: str = "terms") -> dict[str, Needs]:
    """What each term of an objective needs, by the recipe's key that decides it.

    Args:
        section: the key of the terms in the recipe, such as ``arms.deda.terms``.

    Raises:
        InputError: the network lacks a layer that a term needs; the key is named.
    """
    found = {}
    for name, config in terms.items():
        decides = {"layers", "layer"} & type(config).model_fields.keys()
        key = ".".join([section, name, *decides])
        with naming(key):
            found[key] = term_class(name).needs(config, network)
    return found


def needs(terms: Terms, network: nn.Module) -> Needs:
    """What all terms of an objective need together.

    Raises:
        InputError: the network lacks a layer that a term needs, or two terms need different patches.
    """
    return Needs.together(needs_by_key(terms, network).values())


def tapped(terms: Terms, network: nn.Module) -> Taps:
    """The network, frozen, with taps for everything that the terms need."""
    needed = needs(terms, network)
    layers = (*needed.moments, *needed.pooled)
    return Taps(
        network,
        layers,
        moments=bool(needed.moments),
        patch=needed.patch or 1,
        maps=needed.maps,
        end=needed.end,
    )


def remarks(method: Method) -> list[str]:
    """What the terms of a method remark on themselves."""
    if method.match is not None and method.match.added.share is not None:
        return []  # the share decides what they weigh
    found = (term_class(name).remark(config, method.terms) for name, config in method.terms.items())
    return [remark for remark in found if remark]


def build_terms(terms: Terms, context: Context) -> list[AnyTerm]:
    """The terms of an objective, in the order in which they are added up."""
    return [term_class(name)(config, context) for name, config in terms.items()]


def add_values(total: Values, values: Values) -> None:
    """Add values, without their graphs, to those of the same names so far."""
    for name, value in values.items():
        total[name] = total[name] + value.detach() if name in total else value.detach()


def by_class(x: Tensor, shape: Shape) -> Tensor:
    """Rows [N, D] of a unit, grouped by class: [classes in all batches, slots, D]."""
    return x.view(-1, shape[2], x.shape[1])

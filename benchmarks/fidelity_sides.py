"""Both sides of ``fidelity.py``: ours, and the stand-ins in which a released loop runs.

Stand-ins are there for what the loops ask of their surroundings: ``.cuda()``, wandb, files of initial images
and embeddings, draws, and the saving of images.
"""

from __future__ import annotations

import importlib.util
import io
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import NamedTuple, cast
from unittest import mock

import torch
from fidelity_banks import SEED, ClassBank, RealBank, SpreadBank, random_network
from torch import Tensor, nn
from torchvision import transforms

from fastdd.bank import Bank
from fastdd.config import Method, Recover
from fastdd.recipes.resolve import resolve
from fastdd.recover import Recovery, Unit, all_units
from fastdd.recover.objective import draws
from fastdd.recover.terms.convolution import Convolution, Memory
from fastdd.runtime.progress import Bar
from fastdd.runtime.seeds import generator
from fastdd.teachers import Card, Teacher

STEPS = 4
RELEASED_ADAM = {
    "first_bn_multiplier": 10.0,
    "verifier": False,
    "store_best_images": True,
    "iteration": STEPS,
}
"""arguments that most released scripts have"""

# -- ours ------------------------------------------------------------------------------------------


class Agreement(NamedTuple):
    """How far two sets of images are apart: ``rel`` and ``equal``, as fidelity.py says."""

    rel: float
    equal: float

    @staticmethod
    def of(ours: Tensor, released: Tensor) -> Agreement:
        difference = ours - released
        return Agreement(
            float(difference.norm() / released.norm()), float((difference.abs() < 1e-4).float().mean())
        )


class Silent:
    """A progress bar that shows nothing."""

    def advance(self, images: int, note: str = "") -> None:
        pass


@dataclass
class Ours:
    """One unit of a recipe's arm through a random network.

    Attributes:
        recipe: name of the built-in recipe, whose arm and normalization are taken.
        overrides: values that make it small, as ``key=value``.
        name: name of the network.
        shape: classes, images a class, side of an image in pixels.
        bank: what its terms read of real images; None: nothing.
        unit_images: most images of a unit; 1: a unit is one batch.
        constants: mean and standard deviation of colors; None: the recipe's.
    """

    recipe: str
    overrides: Sequence[str]
    name: str
    shape: tuple[int, int, int]
    bank: RealBank | ClassBank | SpreadBank | None = None
    unit_images: int = 10**6
    constants: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    teacher: Teacher = field(init=False)
    method: Method = field(init=False)

    def __post_init__(self) -> None:
        classes, ipc, _ = self.shape
        given = [f"ipc={ipc}", f"method.steps={STEPS}", *self.overrides]
        recipe = resolve(self.recipe, given).recipe
        (self.method,) = recipe.arms.values()
        mean, std = self.constants or (recipe.teacher.mean, recipe.teacher.std)
        names = tuple(map(str, range(classes)))
        self.teacher = Teacher(self.network(), Card(self.name, names, 3, mean, std, accuracy=0.5))

    @property
    def unit(self) -> Unit:
        """The last unit, which with offsets has one."""
        classes, ipc, _ = self.shape
        return all_units(self.method, ipc, classes, 1, unit_images=self.unit_images)[-1]

    @property
    def recovery(self) -> Recovery:
        side = self.shape[2]
        real = torch.randint(0, 256, (len(self.unit.rows), 3, side, side), generator=generator(SEED, "real"))
        return Recovery(
            self.method,
            Recover(compile=False),
            [self.teacher],
            [cast("Bank", self.bank)],
            real_images=lambda rows: real[: len(rows)].to(torch.uint8),
            shape=(3, side, side),
            seed=SEED,
        )

    def network(self) -> nn.Module:
        """A network like the teacher's, which a released loop may put hooks into."""
        return random_network(self.name, self.shape[0])

    def start(self) -> Tensor:
        """Normalized initial images."""
        return self.recovery.initial(self.unit.rows)

    def rows(self) -> list[list[int]]:
        """What augmentation draws at each step: flip, two rolls and, with a crop, its window."""
        side = self.shape[2]
        drawn = draws(self.method.augment, self.unit, STEPS, size=(side, side), seed=SEED)
        assert drawn is not None
        return drawn[:, 0].tolist()

    def images(self) -> Tensor:
        """The images after the last step, in [0, 1]."""
        return self.recovery.optimize(self.unit, cast("Bar", Silent()))[0]

    def beside(self, released: Tensor) -> Agreement:
        """Ours beside the released ones."""
        return Agreement.of(self.images(), released)


class ClassNorm(nn.BatchNorm2d):
    """A BatchNorm as LPLD's networks have it: it holds statistics of classes, and hooks get its input in a
    pair."""

    @staticmethod
    def put_into(network: nn.Module, bank: ClassBank) -> None:
        """Make every BatchNorm of a network one of these."""
        for name, (mean, variance) in bank.layers.items():
            norm = network.get_submodule(name)
            norm.__class__ = ClassNorm
            norm.class_running_mean, norm.class_running_var = mean, variance
            norm.register_forward_pre_hook(lambda _, given: ((given[0], None),))

    def forward(self, pair: tuple[Tensor, None]) -> Tensor:  # type: ignore[override]
        return super().forward(pair[0])


# -- theirs ----------------------------------------------------------------------------------------


def dropped(ours: Ours) -> list[float]:
    """What ``random.random`` returns for each convolution at each step: 1 if it is dropped, otherwise 0."""
    unit, recovery, bank = ours.unit, ours.recovery, cast("SpreadBank", ours.bank)
    (objective,) = recovery.objective(unit.shape)
    (memory,) = (
        targets[1]
        for term, targets in zip(objective.terms, objective.targets(unit), strict=True)
        if isinstance(term.config, Convolution)
    )
    chosen, names = cast("Memory", memory).chosen[:STEPS, 0], list(bank.modules)
    return [float(not step[names.index(layer)]) for step in chosen for layer in bank.order]


def patches_of(images: Tensor, pattern: str, h: int, w: int) -> Tensor:
    """einops' ``rearrange`` for the one pattern that the loops ask for: the numbers of each patch, [P, n]."""
    assert pattern == "b c (u h) (v w) -> (u v) (b c h w)"
    cut = images.unflatten(3, (-1, w)).unflatten(2, (-1, h))
    return cut.permute(2, 4, 0, 1, 3, 5).flatten(0, 1).flatten(1)


@contextmanager
def double_precision() -> Iterator[None]:
    """Both sides compute in float64, also where they ask for float32 by name."""
    torch.set_default_dtype(torch.float64)
    try:
        with mock.patch.object(Tensor, "float", Tensor.double):
            yield
    finally:
        torch.set_default_dtype(torch.float32)


@contextmanager
def surroundings(rows: list[list[int]], start: Tensor, files: Callable[[str], Tensor]) -> Iterator[None]:
    """Stand-ins for a GPU, for draws and for files, while a released loop runs.

    Args:
        rows: what the steps draw, as ``Ours.rows``.
        start: what ``torch.randn`` returns.
        files: what ``torch.load`` returns for a path.
    """
    rolls = iter([roll for _, down, right, *_ in rows for roll in (down, right)])
    flips, windows = iter([row[0] for row in rows]), iter([row[3:] for row in rows])
    to, zeros = Tensor.to, torch.zeros

    def moved(tensor: Tensor, *where: object, **options: object) -> Tensor:
        where = tuple("cpu" if str(each).startswith("cuda") else each for each in where)
        where = tuple(torch.get_default_dtype() if each == torch.float32 else each for each in where)
        return to(tensor, *where, **options)  # type: ignore[call-overload]

    def flipped(module: nn.Module, images: Tensor) -> Tensor:
        return images.flip(3) if next(flips) else images

    replaced: list[tuple[object, str, object]] = [
        (Tensor, "cuda", lambda tensor, *_: tensor),
        (Tensor, "to", moved),
        (nn.Module, "cuda", lambda module, *_: module),
        (torch, "randn", lambda *_, **__: start.clone().requires_grad_()),
        (torch, "zeros", lambda *size, **options: zeros(*size, **{**options, "device": "cpu"})),
        (torch, "load", lambda path, **_: files(str(path))),
        (random, "randint", lambda low, high: next(rolls)),
        (transforms.RandomResizedCrop, "get_params", staticmethod(lambda *_, **__: tuple(next(windows)))),
        (transforms.RandomCrop, "get_params", staticmethod(lambda *_, **__: tuple(next(windows)))),
        (transforms.RandomHorizontalFlip, "forward", flipped),
    ]
    with ExitStack() as stack, redirect_stdout(io.StringIO()):
        for holder, name, replacement in replaced:
            stack.enter_context(mock.patch.object(holder, name, replacement))
        yield


def counted_steps(steps: int, **_: object) -> range:
    """tqdm's ``trange``, without a bar."""
    return range(steps)


def imported(file: Path, **stubs: object) -> ModuleType:
    """A released file as a module; its imports of neighbours are looked up in its folder.

    Args:
        file: the file.
        stubs: modules that it imports, by name, and what stands for them.
    """
    stand_ins = {"wandb": mock.MagicMock(), "tqdm": SimpleNamespace(tqdm=iter, trange=counted_steps), **stubs}
    spec = importlib.util.spec_from_file_location(f"released_{file.stem}", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    path = [str(file.parent), str(file.parent.parent), *sys.path]
    with mock.patch.dict(sys.modules, stand_ins), mock.patch.object(sys, "path", path):
        for name in ("utils", "models"):  # the neighbours of other released files
            sys.modules.pop(name, None)
        spec.loader.exec_module(module)
    return module


def saved_by(module: ModuleType, name: str = "save_images") -> list[Tensor]:
    """The list that a released loop puts its final images into, where it would save them."""
    found: list[Tensor] = []
    setattr(module, name, lambda args, images, *_: found.append(images.detach().clone()))
    return found


def arguments(ours: Ours, **more: object) -> SimpleNamespace:
    """What a released loop reads of its command line, with the values of our arm."""
    term = ours.method.terms.bn
    common = {"lr": ours.method.lr, "r_bn": term.weight, "r_var": term.variance, "jitter": 4}
    return SimpleNamespace(**{**RELEASED_ADAM, **common, **more})


def no_files(path: str) -> Tensor:
    raise FileNotFoundError(path)

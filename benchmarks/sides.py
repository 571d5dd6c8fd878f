"""The rows of steps.py: what is divided by what, and whether both sides compute the same gradient."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from released import ReleasedLoop
from settings import OurStep, RandomBank, Setting, random_teacher
from torch import Tensor

from fastdd.config import Method, Precision, Recover, Terms
from fastdd.recipes.resolve import resolve
from fastdd.recover import ClassSlots, Unit
from fastdd.recover.terms.base import Shape
from fastdd.recover.terms.batch_norm import BatchNorm
from fastdd.recover.terms.dire import DiRe
from fastdd.recover.terms.gaussian import Gaussian
from fastdd.runtime.precision import float32_products

BUDGET = {"fp32": 2e-2, "bf16": 0.3}
"""precision -> largest relative error of a gradient that is taken for rounding: a few ReLUs sit so near zero
that rounding decides them. In float32 the released form of a ResNet-18 is 4e-3 from float64, ours 2e-3."""
ROUNDING = 1.1
"""in bf16 ours may err by this times what autocast makes of the released form"""


@dataclass(frozen=True)
class Row:
    """Two sides, timed in turns.

    Attributes:
        over, under: names of the sides; the ratio is the first one's time over the second one's.
        timed_over, timed_under: run some steps of each.
        error: relative error of one side's gradient against the other's, by their norms.
        budget: largest error with which the figure is not refused.
        goal: the ratio to be reached or, with at_most, not to be passed.
    """

    over: str
    under: str
    timed_over: Callable[[], object]
    timed_under: Callable[[], object]
    error: Callable[[], float]
    budget: float
    goal: float
    at_most: bool = False

    def met(self, ratio: float) -> bool:
        """Whether a ratio meets the goal."""
        return ratio <= self.goal if self.at_most else ratio >= self.goal


def difference(a: Tensor, b: Tensor) -> float:
    """||a - b|| / ||b||"""
    return float((a - b).norm() / b.norm())


def unit_of(shape: Shape, index: int = 0) -> Unit:
    """Batches of consecutive classes, all with the first slots."""
    batches, classes, slots = shape
    return Unit(
        index,
        tuple(
            ClassSlots(tuple(range(b * classes, (b + 1) * classes)), tuple(range(slots)))
            for b in range(batches)
        ),
    )


def declared(name: str, steps: int, **changes: object) -> Method:
    """A bundled recipe's method, from noise."""
    (method,) = resolve(name).recipe.arms.values()
    return method.model_copy(update={"steps": steps, "init": "noise", **changes})


class Bench:
    """A random teacher and its bank, and our steps in one form."""

    def __init__(
        self, setting: Setting, device: torch.device, *, compiled: bool, precision: Precision, steps: int
    ) -> None:
        self.setting, self.device, self.steps = setting, device, steps
        self.config = Recover(precision=precision, compile=compiled)
        self.budget = BUDGET[precision]
        self.teacher = random_teacher(setting, device)
        self.bank = RandomBank(setting, self.teacher)

    def ours(self, method: Method, *units: Unit, eager: bool = False) -> list[OurStep]:
        """Units of one arm."""
        config = self.config.model_copy(update={"compile": False}) if eager else self.config
        steps: list[OurStep] = []
        for unit in units:
            shared = steps[0].recovery if steps else None
            steps.append(OurStep(method, config, unit, self.teacher, self.bank, shared))
        return steps

    def against_released(self, method: Method, shape: Shape, goal: float) -> Row:
        """The released loop over ours, for a method with BatchNorm statistics."""
        unit, terms = unit_of(shape), method.terms
        (ours,) = self.ours(method, unit)
        assert terms.bn is not None
        released = ReleasedLoop(
            self.teacher.network,
            torch.tensor([c for c, _ in unit.rows], device=self.device),
            [(low.item(), high.item()) for low, high in zip(*self.teacher.bounds(self.device), strict=True)],
            r_bn=terms.bn.weight,
            first=terms.bn.first,
            real=[self.bank.embeddings(c).to(self.device) for c in unit.groups] if terms.dire else (),
        )

        def released_gradient(enabled: bool) -> Tensor:
            """Gradient of the released loss, with autocast to bf16 or without."""
            images = ours.images.clone().requires_grad_()
            _, rows, columns = ours.first_draws()[0].tolist()
            with float32_products("fp32"), torch.autocast(self.device.type, torch.bfloat16, enabled=enabled):
                loss = released.loss(images, (rows, columns))
            return torch.autograd.grad(loss, images)[0]

        wanted = released_gradient(False)
        budget = self.budget
        if self.config.precision == "bf16":  # rounding is what bf16 does to the released form itself
            budget = ROUNDING * difference(released_gradient(True), wanted)

        def error() -> float:
            return difference(ours.gradient(), wanted)

        timed = lambda: released.optimize(ours.images, self.steps, method.lr)  # noqa: E731
        return Row("released", "ours", timed, ours.run, error=error, budget=budget, goal=goal)


def statistics_row(bench: Bench) -> Row:
    """All statistics over cross-entropy alone.

    The gradient of all terms is compared with the sum of the gradients of each alone.
    """
    everything = Terms(bn=BatchNorm(), gaussian=Gaussian(), dire=DiRe())
    plain, unit = declared("cifar10-sre2l", bench.steps), unit_of(bench.setting.statistics)

    def of(terms: Terms, eager: bool = False) -> OurStep:
        return bench.ours(plain.model_copy(update={"terms": terms}), unit, eager=eager)[0]

    together, alone = of(everything), of(Terms())

    def error() -> float:
        terms = {name: everything[name] for name in ("bn", "gaussian", "dire")}
        single = [alone, *(of(Terms(ce=None, **{name: term}), eager=True) for name, term in terms.items())]
        return difference(together.gradient(), torch.stack([one.gradient() for one in single]).sum(0))

    return Row(
        "all statistics",
        "cross-entropy",
        together.run,
        alone.run,
        error=error,
        budget=bench.budget,
        goal=1.15,
        at_most=True,
    )


def sre2l_row(bench: Bench) -> Row:
    """The released loop of SRe2L over ours."""
    return bench.against_released(declared("cifar10-sre2l", bench.steps), bench.setting.sre2l, 3.0)


def dire_row(bench: Bench) -> Row:
    """The released loop of SRe2L + DiRe over ours."""
    method = declared("cifar10-dire", bench.steps)
    assert method.terms.dire is not None
    as_released = method.terms.dire.model_copy(update={"reading": "code"})
    terms = Terms(**{**method.terms, "dire": as_released})
    return bench.against_released(method.model_copy(update={"terms": terms}), bench.setting.dire, 4.0)


def deda_row(bench: Bench) -> Row:
    """Class after class over all classes in a unit."""
    method, unit = declared("cifar10-deda", bench.steps), unit_of(bench.setting.deda)
    (together,) = bench.ours(method, unit)
    single = bench.ours(method, *(Unit(i, (batch,)) for i, batch in enumerate(unit.batches)))

    def run() -> None:
        for one in single:
            one.run()

    def error() -> float:
        return difference(together.gradient(), torch.cat([one.gradient() for one in single]))

    return Row(
        "class after class", "in a unit", run, together.run, error=error, budget=bench.budget, goal=1.5
    )


ROWS = {"statistics": statistics_row, "sre2l": sre2l_row, "dire": dire_row, "deda": deda_row}

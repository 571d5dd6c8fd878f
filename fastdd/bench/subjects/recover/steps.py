"""Recover steps against the released loops, and what statistics and grouping do to them.

Each side runs some steps of the whole loop: augmentation, teacher forward and backward to the images, terms,
Adam, clipping. A side is timed only if its gradient at the first step is that of float64. In bf16 ours may
err by 1.1 times what autocast makes of the released loop itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from ....config import Method, Recover, Terms
from ....recover import Recovery, Unit
from ....recover.terms.base import Shape
from ....recover.terms.batch_norm import BatchNorm
from ....recover.terms.dire import DiRe
from ....recover.terms.gaussian import Gaussian
from ....runtime.precision import float32_products
from ....teachers import Teacher
from ...released import ReleasedLoop
from ...units import FULL, QUICK, OurStep, RandomBank, Setting, declared, in_float64, random_teacher, unit_of
from ...work import TOLERANCE, Goal, Least, Scale, Side, Work

ROUNDING = 1.1
"""in bf16 ours may err by this times what autocast makes of the released form"""


@dataclass(frozen=True)
class Lab:
    """A random teacher, its bank, and our steps with them."""

    scale: Scale
    steps: int
    teacher: Teacher
    bank: RandomBank

    @classmethod
    def of(cls, scale: Scale, steps: int, setting: Setting | None = None) -> Lab:
        """A teacher and its bank; the setting is the scale's own where none is given."""
        setting = setting or (QUICK if scale.quick else FULL)
        teacher = random_teacher(setting, scale.device)
        return cls(scale, steps, teacher, RandomBank(setting, teacher))

    def step(
        self, method: Method, unit: Unit, *, compiled: bool = False, shared: Recovery | None = None
    ) -> OurStep:
        config = Recover(precision=self.scale.precision, compile=compiled)
        return OurStep(method, config, unit, teacher=self.teacher, bank=self.bank, recovery=shared)

    def exact(self, method: Method, unit: Unit) -> Tensor:
        teacher = in_float64(self.teacher)
        bank = RandomBank(self.bank.setting, teacher, torch.float64)
        config = Recover(precision="fp32", compile=False)
        return OurStep(method, config, unit, teacher=teacher, bank=bank).gradient()


def convolutions(step: OurStep, scale: Scale, steps: int) -> Least:
    """The operations of some steps: one forward pass of the teacher, and one backward pass to the images."""
    images = step.images.clone().requires_grad_()
    counter = FlopCounterMode(display=False)
    with counter:
        step.teacher.network(images).sum().backward()
    return Least(operations=steps * counter.get_total_flops(), precision=scale.precision)


# -- released loops --------------------------------------------------------------------------------


@dataclass
class Released:
    """Our unit, and the released loop on the same images, labels and real embeddings."""

    lab: Lab
    method: Method
    ours: OurStep

    def __post_init__(self) -> None:
        self.loop = self._loop(self.lab.teacher, torch.float32)

    @cached_property
    def compiled(self) -> OurStep:
        """Ours, compiled; the compiler takes a minute or two."""
        return self.lab.step(self.method, self.ours.unit, compiled=True)

    def _loop(self, teacher: Teacher, dtype: torch.dtype) -> ReleasedLoop:
        unit, terms, device = self.ours.unit, self.method.terms, self.lab.scale.device
        bounds = zip(*teacher.bounds(device), strict=True)
        assert terms.bn is not None
        rows = [self.lab.bank.embeddings(c).to(device, dtype) for c in unit.groups] if terms.dire else ()
        return ReleasedLoop(
            teacher.network,
            torch.tensor([c for c, _ in unit.rows], device=device),
            [(low.item(), high.item()) for low, high in bounds],
            r_bn=terms.bn.weight,
            first=terms.bn.first,
            real=rows,
        )

    def gradient(self, loop: ReleasedLoop, dtype: torch.dtype, bf16: bool = False) -> Tensor:
        images = self.ours.images.to(dtype, copy=True).requires_grad_()
        _, rows, columns = self.ours.first_draws()[0].tolist()
        device = self.lab.scale.device.type
        with float32_products("fp32"), torch.autocast(device, torch.bfloat16, enabled=bf16):
            loss = loop.loss(images, (rows, columns))
        return torch.autograd.grad(loss, images)[0]

    def exact(self) -> Tensor:
        """The same in float64."""
        return self.gradient(self._loop(in_float64(self.lab.teacher), torch.float64), torch.float64)

    def tolerance(self) -> float:
        """The error that is taken for rounding."""
        if self.lab.scale.precision != "bf16":
            return TOLERANCE
        exact, rounded = self.exact(), self.gradient(self.loop, torch.float32, bf16=True)
        return max(TOLERANCE, ROUNDING * float((rounded - exact).norm() / exact.norm()))

    def run(self) -> None:
        """The steps of the released loop."""
        self.loop.optimize(self.ours.images, self.lab.steps, self.method.lr)


def released_work(
    name: str, scale: Scale, steps: int, method: Method, shape: Shape, *, goals: tuple[Goal, ...]
) -> Work[Released]:
    """A method with BatchNorm statistics against its released loop."""

    def inputs() -> Released:
        lab = Lab.of(scale, steps)
        return Released(lab, method, lab.step(method, unit_of(shape)))

    batches, classes, slots = shape
    setting = QUICK if scale.quick else FULL
    images = f"{batches * classes * slots} images of {setting.side} x {setting.side}"
    return Work(
        name,
        f"steps of {name}, the released loop in fp32, {setting.network}, {images} of {classes} classes",
        inputs,
        lambda both: [both.exact()],
        tolerance=lambda both: both.tolerance(),
        error="norm",
        count=steps,
        unit="step",
        goals=goals,
        least=lambda both: convolutions(both.ours, scale, steps),
        sides={
            "ours": Side(lambda both: both.ours.run, lambda both: [both.ours.gradient()]),
            "ours_compiled": Side(
                lambda both: both.compiled.run, lambda both: [both.compiled.gradient()], compiled=True
            ),
            "released": Side(
                lambda both: both.run,
                lambda both: [both.gradient(both.loop, torch.float32)],
                needs=("torchmetrics",),
            ),
        },
    )


# -- statistics, and classes together --------------------------------------------------------------


@dataclass
class Together:
    """A unit and the parts of its work."""

    lab: Lab
    whole: OurStep
    parts: Sequence[OurStep]
    exact: Tensor

    @cached_property
    def compiled(self) -> OurStep:
        """The whole, compiled; the compiler takes a minute or two."""
        return self.lab.step(self.whole.method, self.whole.unit, compiled=True)

    def run_parts(self) -> None:
        """The parts one after the other."""
        for part in self.parts:
            part.run()


def _work_of_parts(
    name: str,
    title: str,
    inputs: Callable[[], Together],
    *,
    scale: Scale,
    steps: int,
    goals: tuple[Goal, ...],
    sides: dict[str, Side[Together]],
) -> Work[Together]:
    """Steps whose truth is put together from parts, each in float64."""
    return Work(
        name,
        title,
        inputs,
        lambda both: [both.exact],
        tolerance=scale.tolerance,
        error="norm",
        count=steps,
        unit="step",
        goals=goals,
        least=lambda both: convolutions(both.whole, scale, steps),
        sides=sides,
    )


def statistics_work(scale: Scale, steps: int) -> Work[Together]:
    """All statistics against cross-entropy alone; the truth is the sum of each term's gradient alone."""
    setting = QUICK if scale.quick else FULL
    unit, plain = unit_of(setting.statistics), declared("cifar10-sre2l", steps)
    everything = Terms(bn=BatchNorm(), gaussian=Gaussian(), dire=DiRe())

    def of(terms: Terms) -> Method:
        return plain.model_copy(update={"terms": terms})

    def inputs() -> Together:
        lab = Lab.of(scale, steps)
        alone = [of(Terms(ce=None, **{name: everything[name]})) for name in ("bn", "gaussian", "dire")]
        exact = torch.stack([lab.exact(method, unit) for method in (of(Terms()), *alone)]).sum(0)
        return Together(lab, lab.step(of(everything), unit), [lab.step(of(Terms()), unit)], exact)

    batches, classes, slots = setting.statistics
    return _work_of_parts(
        "statistics",
        f"steps with BatchNorm statistics, Gaussian alignment and DiRe, {setting.network}, "
        f"{batches * classes * slots} images of {setting.side} x {setting.side} of {classes} classes",
        inputs,
        scale=scale,
        steps=steps,
        goals=(
            Goal("time", 1.35, "cross_entropy"),
            Goal("time", 1.10, "cross_entropy_compiled", side="ours_compiled"),
        ),
        sides={
            "ours": Side(lambda both: both.whole.run, lambda both: [both.whole.gradient()]),
            "cross_entropy": Side(lambda both: both.parts[0].run, part=True),
            "ours_compiled": Side(
                lambda both: both.compiled.run, lambda both: [both.compiled.gradient()], compiled=True
            ),
            "cross_entropy_compiled": Side(
                lambda both: both.lab.step(of(Terms()), unit, compiled=True).run, part=True, compiled=True
            ),
        },
    )


def deda_work(scale: Scale, steps: int) -> Work[Together]:
    """All classes in a unit against class after class; the truth is that of the classes alone."""
    setting = QUICK if scale.quick else FULL
    method, unit = declared("cifar10-deda", steps), unit_of(setting.deda)
    units = [Unit(i, (batch,)) for i, batch in enumerate(unit.batches)]

    def inputs() -> Together:
        lab = Lab.of(scale, steps)
        exact = torch.cat([lab.exact(method, each) for each in units])
        first = lab.step(method, units[0])
        parts = [first, *(lab.step(method, each, shared=first.recovery) for each in units[1:])]
        return Together(lab, lab.step(method, unit), parts, exact)

    batches, _, slots = setting.deda
    return _work_of_parts(
        "deda",
        f"steps of DEDA, {batches} classes of {slots} images in a unit against class after class, "
        f"{setting.network}, {setting.side} x {setting.side}",
        inputs,
        scale=scale,
        steps=steps,
        goals=(Goal("faster", 1.5, "class_after_class"),),
        sides={
            "ours": Side(lambda both: both.whole.run, lambda both: [both.whole.gradient()]),
            "class_after_class": Side(
                lambda both: both.run_parts,
                lambda both: [torch.cat([part.gradient() for part in both.parts])],
            ),
        },
    )


def works(scale: Scale) -> list[Work]:
    """The works on whole steps."""
    steps = scale.size(2, 1)
    setting = QUICK if scale.quick else FULL
    dire = declared("cifar10-dire", steps)
    assert dire.terms.dire is not None
    as_released = Terms(**{**dire.terms, "dire": dire.terms.dire.model_copy(update={"reading": "code"})})
    dire = dire.model_copy(update={"terms": as_released})
    return [
        statistics_work(scale, steps),
        released_work(
            "sre2l",
            scale,
            steps,
            declared("cifar10-sre2l", steps),
            setting.sre2l,
            goals=(Goal("faster", 3, "released"), Goal("faster", 4, "released", side="ours_compiled")),
        ),
        released_work(
            "dire",
            scale,
            steps,
            dire,
            setting.dire,
            goals=(Goal("faster", 4, "released"), Goal("faster", 5.5, "released", side="ours_compiled")),
        ),
        deda_work(scale, steps),
    ]

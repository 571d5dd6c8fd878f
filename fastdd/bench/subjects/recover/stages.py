"""What FADRM's blends cost, and what a ladder of image sizes saves.

The sides are whole loops of the same steps: FADRM against SRe2L++, which has no blends, and a ladder of sizes
against all steps at the full one. What is compared with float64 is the gradient of the first step at the full
size, which all of them share.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import cast

import torch
from torch import Tensor

from ....bank import Bank
from ....config import Method, Recover, Residual
from ....recover import Recovery, Unit
from ....teachers import Teacher
from ...units import (
    FULL,
    OurStep,
    RandomBank,
    Setting,
    Silent,
    declared,
    in_float64,
    no_images,
    random_teacher,
    unit_of,
)
from ...work import Goal, Scale, Side, Work

LADDER = (128, 160, 192, 224)
QUICK_LADDER = (4, 8)
RESIDUAL = Residual(stages=4, alpha=0.5)


@dataclass
class Loops:
    """Loops on the images of one unit.

    Attributes:
        plain: the method whose first step is compared.
    """

    scale: Scale
    setting: Setting
    unit: Unit
    plain: Method

    @cached_property
    def teacher(self) -> Teacher:
        return random_teacher(self.setting, self.scale.device, batch=20)

    def loop(self, method: Method) -> Callable[[], object]:
        """All steps of a method."""
        config = Recover(precision=self.scale.precision, compile=False)
        bank = cast(Bank, RandomBank(self.setting, self.teacher))
        shape = (3, self.setting.side, self.setting.side)
        recovery = Recovery(
            method, config, [self.teacher], [bank], real_images=no_images, shape=shape, seed=0
        )
        return partial(recovery.optimize, self.unit, Silent())

    def gradient(self) -> list[Tensor]:
        """The gradient of the first step."""
        config = Recover(precision=self.scale.precision, compile=False)
        bank = RandomBank(self.setting, self.teacher)
        return [OurStep(self.plain, config, self.unit, teacher=self.teacher, bank=bank).gradient()]

    def exact(self) -> list[Tensor]:
        """The same in float64."""
        teacher = in_float64(self.teacher)
        bank = RandomBank(self.setting, teacher, torch.float64)
        config = Recover(precision="fp32", compile=False)
        return [OurStep(self.plain, config, self.unit, teacher=teacher, bank=bank).gradient()]


def loop_work(
    name: str,
    text: str,
    scale: Scale,
    setting: Setting,
    methods: tuple[Method, Method],
    *,
    images: int,
    other: str,
    goal: Goal,
) -> Work[Loops]:
    """Loops of two methods, ours and the other, which takes the same steps from the same images."""
    ours, plain = methods
    return Work(
        name,
        f"{plain.steps} steps of {text}, {setting.network}, {images} images of side {setting.side}",
        lambda: Loops(scale, setting, unit_of((1, images, 1)), plain),
        lambda loops: loops.exact(),
        tolerance=scale.tolerance,
        error="norm",
        count=plain.steps,
        unit="step",
        goals=(goal,),
        sides={
            "ours": Side(lambda loops: loops.loop(ours), lambda loops: loops.gradient()),
            other: Side(lambda loops: loops.loop(plain), part=True),
        },
    )


def works(scale: Scale) -> list[Work]:
    quick, steps = scale.quick, scale.size(20, 4)
    small = FULL._replace(network="resnet8", side=8) if quick else FULL
    large = small if quick else FULL._replace(network="resnet18", side=224)
    plain, wide = declared("cifar10-sre2lpp", steps), declared("imagenet1k-sre2lpp", steps)
    sizes = QUICK_LADDER if quick else LADDER
    blended = plain.model_copy(update={"residual": RESIDUAL})
    ladder = wide.model_copy(update={"sizes": sizes, "budgets": "equal"})
    return [
        loop_work(
            "residual",
            "FADRM with three blends against SRe2L++",
            scale,
            small,
            (blended, plain),
            images=scale.size(100, 4),
            other="sre2lpp",
            goal=Goal("time", 1.01, "sre2lpp"),
        ),
        loop_work(
            "ladder",
            f"SRe2L++ at {', '.join(map(str, sizes))} pixels against all at the last",
            scale,
            large,
            (ladder, wide),
            images=scale.size(10, 2),
            other="one_size",
            goal=Goal("faster", 1.5, "one_size"),
        ),
    ]

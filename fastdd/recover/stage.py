"""Recover a distilled set, unit by unit: each is saved whole or not at all, and never done twice.

    images/<arm>/<class>/<slot>.png      see distilled/images.py
    recover/<arm>/plan.json              images a unit, where that was chosen for the run
    recover/<arm>/unit_<index>.json      rows and losses of a unit; written last, so it marks the unit finished

The processes of torchrun take units from one queue, so none waits for another. What is in a unit, its seeds and its
result do not depend on who does it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..bank import Bank
from ..config import Method, Recover
from ..distilled.images import save_recovered
from ..errors import InputError
from ..run_folder import RunFolder, UnitLog, UnitPlan, read, write
from ..runtime.distributed import barrier, claims, is_main
from ..runtime.progress import Bar, progress
from ..runtime.seeds import generator
from ..teachers import Taps, Teacher
from .loop import Losses, UnitError, optimize
from .objective import Objective, draws
from .perturb import Climb, perturbed
from .plan import Batch, Unit, all_units
from .resources import compiles, images_that_fit
from .steps import iterations, rounds_of
from .terms.base import Context, Shape, build_terms, tapped

Rows = Sequence[tuple[int, int]]


@dataclass
class Recovery:
    """An arm's optimization: its method, its teachers with their banks, and what its units have in common.

    Attributes:
        method, config: what is optimized, and how.
        teachers, banks: one or several; the images are in the normalization of the first.
        real: (class, slot) rows -> uint8 images, the initial images where the method does not start from noise.
        shape: (C, H, W) of an image.
        seed: of all randomness.
    """

    method: Method
    config: Recover
    teachers: Sequence[Teacher]
    banks: Sequence[Bank]
    real: Callable[[Rows], Tensor]
    shape: tuple[int, int, int]
    seed: int
    taps: list[Taps] = field(init=False)
    objectives: dict[Shape, list[Objective]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        terms = self.method.terms
        networks = [teacher.network for teacher in self.teachers]
        self.taps = [tapped(terms, n) for n in networks]

    @property
    def device(self) -> torch.device:
        return next(self.taps[0].parameters()).device

    def settle(self, units: Sequence[Unit]) -> None:
        """Decide by all units of the arm what ``recover.compile: auto`` means; before that it means no."""
        compile = compiles(self.config, self.method, units, self.taps, self.shape)
        self.config = self.config.model_copy(update={"compile": compile})

    def objective(self, shape: Shape) -> list[Objective]:
        """One a teacher, compiled once for all units of a shape."""
        if shape not in self.objectives:
            self.objectives[shape] = [
                Objective(
                    build_terms(self.method.terms, Context(shape, teacher.network, taps, bank, self.seed)),
                    taps,
                    self.config,
                    self.method.augment.pad,
                )
                for teacher, taps, bank in zip(self.teachers, self.taps, self.banks, strict=True)
            ]
        return self.objectives[shape]

    def prepare(self, units: Sequence[Unit]) -> None:
        """Build the objectives of all shapes that the units will need."""
        shapes = {part.unit.shape for unit in units for part in rounds_of(self.method, unit) if part.steps}
        for shape in sorted(shapes):
            self.objective(shape)

    def initial(self, rows: Rows) -> Tensor:
        """Normalized initial images [N, C, H, W]: noise N(0, 1) or real; each depends on its class and slot alone."""
        if self.method.init != "noise":
            return self.teachers[0].normalize(self.real(rows)).to(self.device)
        noise = [
            torch.randn(self.shape, generator=generator(self.seed, "noise", c, slot)) for c, slot in rows
        ]
        return torch.stack(noise).to(self.device)

    def optimize(self, unit: Unit, bar: Bar) -> tuple[Tensor, Losses]:
        """Recovered images of a unit in [0, 1], and the log of its losses."""
        teacher, images = self.teachers[0], self.initial(unit.rows)
        if not iterations(self.method, unit):
            return teacher.denormalize(images), []
        with self._perturbed(unit):
            images, losses = optimize(
                images, unit, self.method, self.config, teacher, self.objective, self.seed, bar
            )
        return teacher.denormalize(images), losses

    def _perturbed(self, unit: Unit) -> AbstractContextManager[None]:
        config = self.method.perturb
        if config is None:
            return nullcontext()
        (batch,) = unit.batches
        climbs = [self._climb(each) for each in ([batch] if config.restore else unit.earlier(batch))]
        return perturbed(self.taps[0], self.teachers[0].network, climbs, config)

    def _climb(self, batch: Batch) -> Climb:
        alone = Unit(0, (batch,))
        drawn = draws(self.method.augment, alone, self.method.steps, self.shape[1:], self.seed)
        labels = torch.tensor([c for c, _ in alone.rows], device=self.device)
        return self.initial(alone.rows), None if drawn is None else drawn[0].to(self.device), labels


def units_of(arm: str, recovery: Recovery, num_classes: int, ipc: int, run: RunFolder) -> list[Unit]:
    """All units of an arm; how many images fit is decided once for a run folder, and whether to compile."""
    size, path = recovery.config.unit_images, run.plan(arm)
    if size == "auto":
        if is_main() and not path.is_file():
            taps, shape = recovery.taps[0], recovery.shape
            most = images_that_fit(taps, shape, recovery.config.precision, num_classes * ipc)
            write(path, UnitPlan(unit_images=most))
        barrier()
        size = read(path, UnitPlan).unit_images
    units = all_units(recovery.method, ipc, num_classes, len(recovery.teachers), size)
    recovery.settle(units)
    return units


def unfinished(
    arm: str, recovery: Recovery, num_classes: int, ipc: int, run: RunFolder, part: range | None = None
) -> list[Unit]:
    """The arm's units that the run folder lacks; with ``part`` only those with an index in it."""
    units = units_of(arm, recovery, num_classes, ipc, run)
    wanted = [unit for unit in units if part is None or unit.index in part]
    return [unit for unit in wanted if not run.unit(arm, unit.index).is_file()]


def recover(
    arm: str, units: Sequence[Unit], recovery: Recovery, classes: Sequence[str], run: RunFolder
) -> int:
    """Recover units of an arm into a run folder; the same list of units in all processes.

    Args:
        classes: class names in order.
        run: where they are written.

    Returns:
        Image-iterations done by this process.

    Raises:
        InputError: units failed; all others were done first.
    """
    barrier()  # all processes have listed the units before any is finished
    recovery.prepare(units)
    done, failed = 0, []
    total = sum(iterations(recovery.method, unit) for unit in units)
    with progress(f"recover {arm}", total) as bar:
        for unit in _taken(arm, units):
            try:
                images, losses = recovery.optimize(unit, bar)
            except UnitError as error:
                failed.append(str(error))
                continue
            save_recovered(run.images(arm), classes, unit.rows, images, method=recovery.method)
            log = UnitLog.model_validate({"rows": unit.rows, "losses": losses})
            write(run.unit(arm, unit.index), log)
            done += iterations(recovery.method, unit)
    barrier()
    if failed:
        raise InputError(
            f"recover {arm}: {len(failed)} of {len(units)} units failed: {'; '.join(failed)}. The others are kept"
        )
    return done


def _taken(arm: str, units: Sequence[Unit]) -> Iterator[Unit]:
    for number in claims(f"recover/{arm}", len(units)):
        yield units[number]

"""Recover a distilled set, unit by unit: each is saved whole or not at all, and never done twice.

    images/<arm>/<class>/<slot>.png      the images; see distilled/images.py
    recover/<arm>/plan.json              images a unit, if ``recover.unit_images`` is auto
    recover/<arm>/state_<index>.safetensors   checkpoint inside a unit that holds all images of a method
    recover/<arm>/unit_<index>.json      rows and losses of a unit; written last, so it marks the unit
    finished

The processes of torchrun take units from one queue, so none waits for another. Which process does a unit
changes neither its content nor its seeds nor its result.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import KW_ONLY, dataclass, field
from functools import cached_property, partial
from pathlib import Path

import torch
from torch import Tensor

from ..bank import Bank
from ..config import Formation, Method, Precision, Recover
from ..distilled.images import save_images, stored_files
from ..distilled.tiles import collage
from ..errors import InputError
from ..models.build import as_input
from ..run_folder import RunFolder, UnitLog, UnitPlan, read, write
from ..runtime.console import counted
from ..runtime.distributed import barrier, claims, from_main, is_main, say_once
from ..runtime.precision import float32_products, is_bf16
from ..runtime.progress import Bar, progress
from ..runtime.seeds import generator
from ..teachers import Taps, Teacher
from .capture import Capturer, CUDAGraphs, forbids_capture
from .checkpoint import Checkpoint, identity
from .loop import Losses, optimize
from .matching.added import NetworkDiRe, Shared, StepEmbeddings
from .objective import Objective, Signal, TeacherSignal, draws
from .perturb import Climb, perturbed
from .plan import ClassSlots, Rows, Unit, UnitError, all_units
from .resources import STATE_BYTES, bytes_per_image, compiles, images_that_fit
from .saving import UnitWriter, encoding_threads
from .stages import NearestImages, largest_size, resized, sizes_of_steps
from .steps import iterations, rounds_of
from .terms.base import Context, Shape, build_terms, tapped
from .terms.dire import DiRe
from .trial import try_terms
from .variables import Tiled

WRITTEN = 100
"""images that are chosen and not optimized, and read and written together"""


@dataclass
class Recovery:
    """An arm's optimization: its method, its teachers with their banks, and what its units have in common.

    Attributes:
        config: the recover section of the recipe; ``decide_compile`` replaces its ``compile: auto``.
        teachers: the teachers that the method uses; images have the normalization of the first.
        real_images: rows -> uint8 images [N, C, H, W] that the method starts from, unless it starts from
            noise.
        matching: builds the signal that matches synthetic and real images; None: the method has none.
        nearest: builds what chooses the real images anew that a unit is blended with; None: each slot keeps
            the one that it started from.
        taps: each teacher, frozen, with taps for the method's terms.
        objectives: shape of units -> an objective for each teacher; ``objective`` fills it.
        forbids_capture: what forbids that steps are captured; None: nothing does.
        capturer: makes what captures the steps of a unit; None: they are run as they are.
    """

    method: Method
    config: Recover
    teachers: Sequence[Teacher]
    banks: Sequence[Bank]
    _: KW_ONLY
    real_images: Callable[[Rows], Tensor]
    shape: tuple[int, int, int]
    seed: int
    matching: Callable[[], Signal] | None = None
    nearest: Callable[[Unit], NearestImages] | None = None
    taps: list[Taps] = field(init=False)
    objectives: dict[Shape, list[Objective]] = field(init=False, default_factory=dict)
    forbids_capture: str | None = field(init=False)
    capturer: Callable[[], Capturer] | None = field(init=False)

    def __post_init__(self) -> None:
        self.taps = [tapped(self.method.teacher_terms, teacher.network) for teacher in self.teachers]
        if self.device.type == "cuda" and is_bf16(self.device, self.config.precision):
            for taps in self.taps:  # on a CPU this was not measured to be faster
                taps.round_weights()
        networks = [teacher.card.network for teacher in self.teachers]
        self.forbids_capture = forbids_capture(self.method, networks, self.device)
        captured = self.config.capture is not False and self.forbids_capture is None
        self.capturer = partial(CUDAGraphs, self.device) if captured else None

    @property
    def device(self) -> torch.device:
        return next(self.taps[0].parameters()).device

    @property
    def tiles(self) -> Formation | None:
        """The formation whose tiles are what is stored; None: stored images have no tiles."""
        formation = self.method.formation
        return formation if formation is not None and formation.tiled else None

    def decide_compile(self, units: Sequence[Unit]) -> None:
        """Replace ``compile: auto`` by a decision on all units of the arm; until then nothing is compiled."""
        compile = compiles(self.config, self.method, units, self.taps, shape=self.shape)
        self.config = self.config.model_copy(update={"compile": compile})

    def images_that_fit(self, num_classes: int, ipc: int) -> int:
        """Images a unit, where ``recover.unit_images`` is auto, for the memory that is free now."""
        units = all_units(self.method, ipc, num_classes, len(self.teachers), unit_images=1)
        # A step passes one teacher after another, and the images of one stage may be larger than the others'.
        shape = (self.shape[0], *largest_size(self.method, self.shape[1:]))
        kept = max(bytes_per_image(taps, shape, self.config.precision) for taps in self.taps)
        each = 2 * kept + STATE_BYTES * math.prod(shape)
        return images_that_fit(self.device, each, sum(len(unit.rows) for unit in units))

    def objective(self, shape: Shape) -> list[Objective]:
        """The objective of each teacher, compiled once for all units of a shape."""
        if shape not in self.objectives:
            self.objectives[shape] = [
                Objective(
                    build_terms(self.method.teacher_terms, context),
                    context.taps,
                    self.config,
                    self.method.augment,
                )
                for context in self._contexts(shape)
            ]
        return self.objectives[shape]

    @cached_property
    def signal(self) -> Signal:
        """What moves the images: terms through teachers, matching, or both."""
        terms: Signal = TeacherSignal(
            self.method,
            self.objective,
            size=self.shape[1:],
            seed=self.seed,
            accuracies=[teacher.card.accuracy for teacher in self.teachers],
        )
        if self.matching is None or self.method.match is None:
            return terms
        matching, dire = self.matching(), self.method.terms.get("dire")
        if not self.method.terms:
            return matching
        if self.method.match.added.through == "network":
            assert isinstance(dire, DiRe)  # the recipe allows no other term
            assert isinstance(matching, StepEmbeddings)
            terms = NetworkDiRe(dire, matching)
        return Shared(matching, terms, self.method.match.added.share)

    def prepare(self, units: Sequence[Unit]) -> None:
        """Build the objectives for all shapes that occur in the units."""
        if not self.method.teacher_terms:
            return
        shapes = {part.unit.shape for unit in units for part in rounds_of(self.method, unit) if part.steps}
        for shape in sorted(shapes):
            self.objective(shape)

    def try_terms(self, num_classes: int, ipc: int) -> None:
        """Try the terms of the user's own on one batch; it changes nothing.

        Raises:
            InputError: a term does not work; it is named.
        """
        unit = all_units(self.method, ipc, num_classes, len(self.teachers), unit_images=1)[-1]
        active = rounds_of(self.method, unit)[0].unit
        for context in self._contexts(active.shape):
            for size in sorted({self.shape[1:], *sizes_of_steps(self.method, self.shape[1:])}):
                shape = (self.shape[0], *size)
                try_terms(self.method.teacher_terms, context, active, self.config, shape)

    def _contexts(self, shape: Shape) -> list[Context]:
        """What the terms are built for, for each teacher."""
        return [
            Context(shape, teacher.network, taps, bank=bank, seed=self.seed)
            for teacher, taps, bank in zip(self.teachers, self.taps, self.banks, strict=True)
        ]

    def initial(self, rows: Rows) -> Tensor:
        """Normalized initial images [N, C, H, W]: real ones, or noise N(0, 1) drawn by class and slot."""
        if self.method.init != "noise":
            return self.teachers[0].normalize(self.real_images(rows)).to(self.device)
        noise = [
            torch.randn(self.shape, generator=generator(self.seed, "noise", c, slot)) for c, slot in rows
        ]
        return torch.stack(noise).to(self.device)

    def optimize(self, unit: Unit, bar: Bar, checkpoint: Checkpoint | None = None) -> tuple[Tensor, Losses]:
        """Recover a unit: its images [N, C, H, W] in [0, 1], and the log of its losses.

        A formation of tiles gives the stored images, [N / formation.images, C, H, W].
        """
        teacher, images = self.teachers[0], self.initial(unit.rows)
        if not iterations(self.method, unit):
            return teacher.denormalize(images if self.tiles is None else collage(images, self.tiles)), []
        with self._perturbed(unit) as first_gradient, float32_products(self._products):
            images, losses = optimize(
                images,
                unit,
                self.method,
                config=self.config,
                bounds=teacher.bounds(images.device),
                signal=self.signal,
                bar=bar,
                checkpoint=checkpoint,
                capturer=None if self.capturer is None else self.capturer(),
                first_gradient=first_gradient,
                real=None if self.nearest is None else partial(self._nearest, unit, self.nearest(unit)),
            )
        return teacher.denormalize(images), losses

    def _nearest(self, unit: Unit, nearest: NearestImages, images: Tensor) -> Tensor:
        """The real images, normalized [N, C, H, W], that are nearest to a unit's images."""
        size = len(unit.rows) // len(unit.batches)
        # Batch by batch, so that rounding does not depend on the units.
        parts = resized(images, self.shape[1:], antialias=self.method.antialias).split(size)
        with torch.no_grad():
            found = [self._embedder(as_input(part, self._embedder)).embedding for part in parts]
        return self.teachers[0].normalize(nearest(torch.cat(found))).to(self.device)

    @cached_property
    def _embedder(self) -> Taps:
        """The run's own teacher, of which embeddings alone are recorded."""
        return Taps(self.teachers[0].network)

    @property
    def _products(self) -> Precision:
        """The precision of float32 products; where gradients are matched, float32 in any case."""
        match = self.method.match
        return "fp32" if match is not None and match.gradients is not None else self.config.precision

    def _perturbed(self, unit: Unit) -> AbstractContextManager[Tensor | None]:
        config = self.method.perturb
        if config is None:
            return nullcontext()
        (batch,) = unit.batches
        climbs = [self._climb(each) for each in ([batch] if config.restore else unit.up_to(batch))]
        return perturbed(self.taps[0], self.teachers[0].network, climbs, config)

    def _climb(self, batch: ClassSlots) -> Climb:
        alone = Unit(0, (batch,))
        images = self.initial(alone.rows)
        if self.tiles is not None:
            bounds = self.teachers[0].bounds(images.device)
            images = Tiled(images, bounds, self.tiles).images().detach()
        size = sizes_of_steps(self.method, self.shape[1:])[0]
        images = resized(images, size, antialias=self.method.antialias)
        drawn = draws(self.method.augment, alone, self.method.steps, size=size, seed=self.seed)
        labels = torch.tensor([c for c, _ in alone.rows], device=self.device)
        return images, None if drawn is None else drawn[0].to(self.device), labels


def units_of(arm: str, recovery: Recovery, run: RunFolder, *, num_classes: int, ipc: int) -> list[Unit]:
    """All units of an arm.

    The images a unit are decided once for a run folder and written there, since a unit's log tells its
    images by its number. ``recovery`` decides whether to compile.
    """
    size, path = recovery.config.unit_images, run.plan(arm)
    if size == "auto":
        if is_main() and not path.is_file():
            write(path, UnitPlan(unit_images=recovery.images_that_fit(num_classes, ipc)))
        barrier()
        size = read(path, UnitPlan).unit_images
    units = all_units(recovery.method, ipc, num_classes, len(recovery.teachers), unit_images=size)
    recovery.decide_compile(units)
    return units


def unfinished(
    arm: str, recovery: Recovery, run: RunFolder, *, num_classes: int, ipc: int, part: range | None = None
) -> list[Unit]:
    """The arm's units that the run folder lacks; with ``part`` only those with an index in it.

    Units that another machine planned, and that may not fit into the memory of this one, are told of.
    """
    continued = run.plan(arm).is_file()
    units = units_of(arm, recovery, run, num_classes=num_classes, ipc=ipc)
    wanted = [unit for unit in units if part is None or unit.index in part]
    missing = from_main(
        lambda: [n for n, unit in enumerate(wanted) if not run.unit(arm, unit.index).is_file()]
    )
    left = [wanted[n] for n in missing]
    if left and continued and recovery.config.unit_images == "auto":
        size, fit = read(run.plan(arm), UnitPlan).unit_images, recovery.images_that_fit(num_classes, ipc)
        # Units that hold no more than one batch cannot be smaller.
        if size > fit and any(len(unit.batches) > 1 and len(unit.rows) > fit for unit in left):
            say_once(
                f"recover {arm}: its units hold up to {counted(size, 'image')}, as {run.plan(arm)} says, and "
                f"the memory that is free here is for {fit}; if it does not suffice, delete "
                f"{run.recovery(arm)} to start the arm again in smaller units"
            )
    return left


def recover(
    arm: str, units: Sequence[Unit], recovery: Recovery, *, classes: Sequence[str], run: RunFolder
) -> int:
    """Recover units of an arm into a run folder.

    Args:
        units: the units to recover, the same list in all processes.

    Returns:
        The image-iterations that this process did.

    Raises:
        InputError: units failed; all others were done first.
    """
    recovery.prepare(units)
    done, failed, learned = 0, list[str](), list[dict[str, float]]()
    total = sum(iterations(recovery.method, unit) for unit in units)
    # Images that are chosen and not optimized are read and written, and that is counted instead.
    written = 0 if total else sum(len(unit.rows) for unit in units)
    with (
        progress(f"recover {arm}", total or written) as bar,
        UnitWriter(encoding_threads(recovery.device)) as writer,
    ):

        def write_files(part: Unit, images: Tensor, mark: Callable[[], None]) -> None:
            files = stored_files(part.rows, images, recovery.method)
            save = partial(save_images, run.images(arm), classes, *files, config=recovery.method.save)
            writer.write(save, mark)
            if written:
                bar.advance(len(part.rows))

        captures = recovery.device.type == "cuda" and recovery.config.capture == "auto"
        if total and captures and recovery.forbids_capture:
            bar.line(f"steps are not captured as CUDA graphs: {recovery.forbids_capture}")
        for number in claims(f"recover/{arm}", len(units)):
            unit = units[number]
            # No image depends on another where nothing is optimized, so then not all are in memory.
            is_cut = not iterations(recovery.method, unit)
            *parts, last = unit.parts(WRITTEN) if is_cut else [unit]
            for part in parts:
                write_files(part, recovery.optimize(part, bar)[0], lambda: None)
            checkpoint = _checkpoint(run.unit_state(arm, unit.index), recovery, unit)
            try:
                images, losses = recovery.optimize(last, bar, checkpoint)
            except UnitError as error:
                failed.append(str(error))
                continue
            learned.append(recovery.signal.learned())
            log = UnitLog.model_validate({"rows": unit.rows, "losses": losses, "learned": learned[-1]})
            finish = partial(_finish, run.unit(arm, unit.index), log, checkpoint=checkpoint)
            write_files(last, images, finish)
            done += iterations(recovery.method, unit)
        if learned and learned[0]:
            means = {name: sum(each[name] for each in learned) / len(learned) for name in learned[0]}
            bar.line(", ".join(f"{name} {mean:.4g}" for name, mean in means.items()))
    barrier()
    if failed:
        raise InputError(
            f"recover {arm}: {len(failed)} of {len(units)} units failed: {'; '.join(failed)}. "
            f"The others are kept"
        )
    return done


def _finish(path: Path, log: UnitLog, checkpoint: Checkpoint | None) -> None:
    """Mark a unit whose images are on the disk as finished."""
    write(path, log)
    if checkpoint is not None:
        checkpoint.remove()


def _checkpoint(path: Path, recovery: Recovery, unit: Unit) -> Checkpoint | None:
    """Where the state inside a unit is kept, for a method that optimizes all its images in one."""
    method, precision = recovery.method, recovery.config.precision
    if method.match is None or not method.match.coupled:
        return None
    settings = method.model_dump(mode="json", exclude={"title", "save"})
    rows = [[c, slot] for c, slot in unit.rows]
    return Checkpoint(path, identity(settings, precision, recovery.seed, rows))

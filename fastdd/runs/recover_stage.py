"""The recover stage of a run: the distilled images of every arm."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial

import torch
from torch import Tensor

from .. import evaluate, recover
from ..config import BY_SCORE
from ..recover import NearestImages, Rows, Unit
from ..runtime.distributed import say_once
from ..runtime.events import send
from .given_stage import take_given
from .matching_checks import smaller_classes, whole_passes
from .run import Run

SHOWN_CLASSES = 20
"""classes of which trackers get an image"""


def recover_arms(run: Run, units: range | None = None) -> None:
    """Recover what the run folder lacks of all arms' images, or only the units with an index in ``units``.

    Raises:
        InputError: a term of the user's own does not work, or units failed; all others were done first.
    """
    for arm, method in run.experiment.arms.items():
        if recover.own_terms(method.terms):
            with recover.naming(f"arms.{arm}"):
                _recovery(run, arm).try_terms(len(run.experiment.classes), run.experiment.recipe.ipc)
    for arm in run.experiment.arms:
        recover_arm(run, arm, units)


def recover_arm(run: Run, arm: str, units: range | None = None) -> None:
    """Recover what the run folder lacks of one arm's images; see recover_arms."""
    if (given := run.experiment.arms[arm].given) is not None:
        take_given(run, arm, given)
        return
    recipe, classes = run.experiment.recipe, run.experiment.classes
    recovery = _recovery(run, arm)
    left = recover.unfinished(arm, recovery, run.folder, num_classes=len(classes), ipc=recipe.ipc, part=units)
    if left:
        for remark in recover.remarks(run.experiment.arms[arm]):
            say_once(f"recover {arm}: {remark}")
        with run.session.stage(f"recover {arm}") as work:
            work.images = recover.recover(arm, left, recovery, classes=classes, run=run.folder)
            kind = run.experiment.arms[arm].save.format
            firsts = [run.folder.image(arm, name, 0, kind) for name in classes[:SHOWN_CLASSES]]
            found = tuple(file for file in firsts if file.is_file())
            send("images", values={"images": sum(len(unit.rows) for unit in left)}, files=found)


def _recovery(run: Run, arm: str) -> recover.Recovery:
    experiment, recipe = run.experiment, run.experiment.recipe
    used = experiment.teachers_of(arm)
    return recover.Recovery(
        experiment.arms[arm],
        recipe.recover,
        [run.teachers[number] for number in used],
        [run.banks[number] for number in used],
        real_images=_initial_images(run, arm),
        shape=experiment.real.shape,
        seed=recipe.seed,
        matching=None if experiment.arms[arm].match is None else partial(_matching, run, arm),
        nearest=_nearest_images(run, arm),
    )


def _nearest_images(run: Run, arm: str) -> Callable[[Unit], NearestImages] | None:
    """What chooses the real images of an arm's blends anew; None: each slot keeps the one it started from."""
    experiment, recipe, method = run.experiment, run.experiment.recipe, run.experiment.arms[arm]
    if method.residual is None or method.residual.anchor == "initial":
        return None
    train = experiment.real.train
    return partial(
        NearestImages,
        pool=recover.RealPool(run.bank, train.names),
        decode=recover.decoder(train, recipe.data, experiment.device),
        starts=_starts(run, arm) if method.residual.anchor == "unused" else None,
    )


def _starts(run: Run, arm: str) -> Callable[[int], Tensor]:
    """Class -> positions in the training set of what its slots start from, int64 [k, slots]; k may be 0."""
    experiment, method = run.experiment, run.experiment.arms[arm]
    slots = _slots(run, arm)
    if method.init == "noise" or method.candidates is not None:
        return lambda _: torch.empty(0, slots, dtype=torch.int64)
    if method.init == "real":
        positions = experiment.real.choose(slots).view(-1, 1, slots)
        return lambda c: positions[c]
    return _chosen(run, arm).starts


def _matching(run: Run, arm: str) -> recover.Signal:
    """The signal that matches an arm's images with the real ones."""
    match, recipe = run.experiment.arms[arm].match, run.experiment.recipe
    assert match is not None  # the caller looks
    if match.trajectory is not None and (experts := run.experiment.experts) is not None:
        return recover.TrajectorySignal(
            match.trajectory,
            match,
            network=experts.flat_network(),
            experts=run.experts,
            count=recipe.experts.count,
            seed=recipe.seed,
        )
    train = run.experiment.real.train
    for told in (smaller_classes(match, train.counts, train.classes), whole_passes(match, len(train))):
        if told is not None:
            say_once(f"recover {arm}: {told}")
    real = recover.RealImages.of(*run.training_images, run.teacher, recipe.seed)
    return recover.match_signal(match, recipe.recover, real, device=run.experiment.device)


def _initial_images(run: Run, arm: str) -> Callable[[Rows], Tensor]:
    """What an arm's images start from: rows -> uint8 images [N, C, H, W]. Noise is drawn elsewhere."""
    method, slots = run.experiment.arms[arm], _slots(run, arm)
    random = method.init in ("noise", "real")
    images_of = _real_images(run, slots) if random else _chosen(run, arm)
    return images_of if method.offset is None else recover.repeated(images_of, slots)


def _slots(run: Run, arm: str) -> int:
    """Initial images a class of an arm."""
    experiment = run.experiment
    used = len(experiment.teachers_of(arm))
    return recover.real_slots(experiment.arms[arm], experiment.recipe.ipc, len(experiment.classes), used)


def _chosen(run: Run, arm: str) -> recover.Chosen:
    """The initial images of an arm whose method has a rule that chooses them."""
    experiment, recipe = run.experiment, run.experiment.recipe
    source = experiment.candidates.get(arm, experiment.real.train)
    decode = recover.decoder(source, recipe.data, experiment.device)
    by_score = experiment.arms[arm].init in BY_SCORE
    pool: recover.Pool = recover.RealPool(run.bank, source.names, run.scores if by_score else None)
    if arm in experiment.candidates:
        pool = recover.CandidatePool(source, decode, partial(evaluate.embed, run.teacher))
    if (first := experiment.arms[arm].init_first) != "all":
        pool = recover.FirstImages(pool, first)
    return recover.Chosen(
        experiment.arms[arm],
        _slots(run, arm),
        pool=pool,
        decode=decode,
        originals=recover.original_images(source, recipe.data, experiment.device),
        teacher=run.teacher,
        size=experiment.real.shape[1:],
        seed=recipe.seed,
        folder=run.folder.initial(arm),
    )


def _real_images(run: Run, slots: int) -> Callable[[Rows], Tensor]:
    """The seeded choice of ``slots`` real images a class, which begins with the control's images.

    The images of a unit are decoded when it asks for them, so those of others are not in memory.
    """
    real = run.experiment.real
    positions = cache(lambda: real.choose(slots))

    def images_of(rows: Rows) -> Tensor:
        chosen = positions()[[c * slots + slot for c, slot in rows]]
        return real.images(real.train, chosen, is_shown=False)[0]

    return images_of

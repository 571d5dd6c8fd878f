"""What a recipe means on this machine and with its data; what is wrong with it is found here, beforehand."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property
from itertools import product
from pathlib import Path

import torch
from torch import nn

from .. import evaluate, labels, recover
from ..config import BY_SCORE, CONTROL, RANDOM_REAL, Method, Recipe, Student, Terms
from ..config.naming import student_section
from ..data.dataset import Dataset
from ..data.loading.loader import require_dali
from ..data.real_data import RealData
from ..distilled.candidates import open_candidates
from ..distilled.formation import check_formation
from ..distilled.tiles import small_tiles
from ..errors import InputError
from ..evaluate.features import clip_features
from ..evaluate.full_set import FullSet, budget_of_sets, bytes_of_set
from ..models.build import structure
from ..models.outline import multiply_adds, network_for, outline
from ..protocols import SettledStudent, settle_student
from ..recipes.meant import with_networks, with_precision
from ..recipes.used_teachers import teachers_labelling, teachers_used, working_teachers
from ..run_folder import RunFolder, check_folder, refuse_deleting
from ..runtime.console import counted
from ..runtime.devices import device_of
from ..runtime.distributed import say_once, world_size
from ..runtime.precision import on_device
from ..teachers import ImageScores, read_scores
from ..teachers.recipe_names import check_names
from .given_networks import with_released
from .given_sets import check_given
from .matching_checks import check_matching
from .run_experts import RunExperts
from .run_teacher import RunTeacher
from .sizes import possible_sizes


@dataclass(frozen=True)
class Experiment:
    """A recipe with its device and its real images. It stands for no files: nothing is written here.

    Attributes:
        recipe: the resolved recipe, with every ``precision: auto`` replaced by what it means on the device,
            and every ``network: convnet`` by what it means for the images.
        device: where networks and images are.
        real: the real images.
    """

    recipe: Recipe
    device: torch.device
    real: RealData

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of the labels."""
        return self.real.classes

    @cached_property
    def arms(self) -> dict[str, Method]:
        """What is compared, by name: the control first, then the recipe's arms."""
        return {CONTROL: RANDOM_REAL, **self.recipe.arms}

    @cached_property
    def students(self) -> dict[str, Student]:
        """The protocols under which every arm is evaluated, by name."""
        return self.recipe.all_students

    @cached_property
    def teachers(self) -> list[RunTeacher]:
        """The teacher of the run, then those of the committee, also those that no arm uses: their places
        are their numbers."""
        teachers = self.recipe.all_teachers.items()
        return [RunTeacher(name, config, self.recipe, self.real) for name, config in teachers]

    @cached_property
    def working_teachers(self) -> dict[int, RunTeacher]:
        """Number -> teacher, for those that an arm recovers with or that label, and the run's own."""
        return {number: self.teachers[number] for number in working_teachers(self.recipe)}

    @cached_property
    def experts(self) -> RunExperts | None:
        """The experts that arms follow; None where no arm matches trajectories."""
        return RunExperts.of(self.recipe, self.real)

    @cached_property
    def candidates(self) -> dict[str, Dataset]:
        """Arm -> the images from elsewhere that it starts from, for the arms that have some.

        Raises:
            InputError: they cannot be used.
        """
        return {
            arm: open_candidates(
                method.candidates, self.classes, self.recipe.data, key=f"arms.{arm}.candidates"
            )
            for arm, method in self.recipe.arms.items()
            if method.candidates is not None
        }

    def scores(self, run: RunFolder) -> ImageScores:
        """How hard each training image was to learn: the scores that the recipe names, else those that
        squeeze noted in the run folder.

        Raises:
            InputError: there are none, or they are of other images.
        """
        given, train = self.recipe.teacher.scores, self.real.train
        remedy = f"make them with `fastdd score {self.recipe.name}` and give teacher.scores=FILE"
        path = run.scores if given is None else Path(given)
        return read_scores(path, len(train), train.fingerprint, remedy)

    def teachers_of(self, arm: str) -> tuple[int, ...]:
        """The numbers, in ``teachers``, of those that an arm's method uses; the first is the run's own."""
        return teachers_used(self.arms[arm], list(self.recipe.committee))

    def labelling(self, arm: str, student: str = "") -> tuple[int, ...]:
        """The numbers, in ``teachers``, of those that label an arm's images for students of a kind."""
        return teachers_labelling(self.recipe, arm, student)

    def multiply_adds(self, arm: str) -> int | None:
        """Multiply-adds that recover takes for an image of an arm; None: they are not counted."""
        used, (channels, height, width) = self.teachers_of(arm), self.real.shape
        networks = [self.teachers[number].config.network for number in used]

        @cache
        def forward(number: int, size: tuple[int, int]) -> int:
            return multiply_adds(networks[number], len(self.classes), (channels, *size))

        method = self.arms[arm]
        return recover.multiply_adds(method, forward, teachers=len(used), full=(height, width))

    def terms_of(self, teacher: int) -> dict[str, Terms]:
        """Arm -> its terms through teachers, for the arms that use a teacher, given by its number."""
        return {
            arm: method.teacher_terms for arm, method in self.arms.items() if teacher in self.teachers_of(arm)
        }

    def seen(self, arm: str) -> int:
        """Images a class that an arm's students see: ``ipc``, except with offsets and formations."""
        teachers = len(self.teachers_of(arm))
        return recover.seen_slots(self.arms[arm], self.recipe.ipc, len(self.classes), teachers)

    def protocol(self, arm: str, student: str = "", learned_lr: float | None = None) -> SettledStudent:
        """What an arm's students go through, in numbers that depend on how many images the arm has.

        Args:
            student: a name in ``students``.
            learned_lr: learning rate that was learned with the images, for ``lr: learned``.
        """
        classes, config, key = len(self.classes), self.students[student], student_section(student)
        formation = self.arms[arm].formation
        return settle_student(
            config,
            self.seen(arm) * classes,
            classes,
            key,
            learned_lr=learned_lr,
            per_file=1 if formation is None else formation.images,
        )

    def student_structures(self) -> dict[str, str]:
        """Student -> a hash of how its network is built, for those that code which is not fastdd's builds."""
        found = {}
        for student, config in self.students.items():
            if ":" in config.network:
                key = f"{student_section(student)}.network"
                found[student] = structure(outline(key, config.network, len(self.classes), self.real.shape))
        return found

    def full_set(self, student: str = "") -> FullSet:
        """The whole real training set, for students that take as many steps as the control's."""
        return FullSet(self.real, self.protocol(CONTROL, student), self.recipe.seed)

    def full_set_left_out(self) -> str | None:
        """Why no students learn from the whole training set; None: they do.

        Raises:
            InputError: the recipe asks for it, but its images do not fit into memory.
        """
        if not self.recipe.metrics.students:
            return "no students are trained"
        wanted = self.recipe.metrics.full_set
        reasons = (self.full_set(student).left_out(wanted) for student in self.students)
        return next((reason for reason in reasons if reason is not None), None)


def check(
    recipe: Recipe,
    out: Path,
    *,
    fresh: bool = False,
    grows: bool = False,
    classes: range | None = None,
    units: range | None = None,
    trains: bool = True,
) -> Experiment:
    """Refuse now, and not after hours, what cannot be run. Nothing is written or deleted.

    Args:
        recipe: the resolved recipe.
        out: the run folder.
        fresh: an earlier run in the folder will be deleted first.
        grows: the recipe may have arms that the run in the folder lacks.
        classes: the part of the bank that is asked for; None: all.
        units: the part of recovery that is asked for; None: all.
        trains: whether students are to be trained now.

    Raises:
        InputError: a device, data, network, weights, method, protocol or folder that does not fit.
    """
    check_names(recipe)
    device = device_of(recipe.device)
    if recipe.data.backend == "dali":
        require_dali("data.backend")
    recipe = with_precision(with_released(recipe), lambda key, asked: on_device(key, asked, device))
    real = RealData(recipe, device)
    recipe = _with_networks(recipe, real)
    experiment = Experiment(recipe, device, real)
    check_given(recipe, real, out, fresh=fresh)
    for number, teacher in experiment.working_teachers.items():
        teacher.check(experiment.terms_of(number), out, fresh)
    check_matching(experiment.arms, real, units=units is not None)
    for arm, method in recipe.arms.items():
        recover.check_ensemble(f"arms.{arm}", method, len(experiment.teachers_of(arm)))
        networks = [experiment.teachers[number].config.network for number in experiment.teachers_of(arm)]
        recover.check_stages(f"arms.{arm}", method, networks, len(experiment.classes), real.shape)
        forbids = recover.forbids_capture(method, networks, device)
        recover.check_capture(arm, recipe.recover, forbids)
    if experiment.experts is not None:
        experiment.experts.check(out, fresh)
    elif recipe.experts.path is not None:
        say_once(
            f"note: experts.path {recipe.experts.path} is not read, since no arm follows experts (mtt and "
            "tesla do)"
        )
    _check_scores(experiment, out, fresh=fresh)
    for arm in experiment.candidates:
        _check_candidates(experiment, arm, out, fresh=fresh)
    _check_students(experiment)
    number = len(experiment.classes)
    if classes is not None and not 0 <= classes.start < classes.stop <= number:
        raise InputError(
            f"classes {classes.start}:{classes.stop} are not within the {number} classes 0:{number}; name a "
            "part of them with --classes"
        )
    if recipe.metrics.nearest_k >= len(experiment.real.train):
        raise InputError(
            f"metrics.nearest_k is {recipe.metrics.nearest_k}, expected less than the "
            f"{len(experiment.real.train)} real images; lower it"
        )
    if recipe.metrics.features is not None:
        clip_features("metrics.features", recipe.metrics.features, torch.device("cpu"))
    experiment.full_set_left_out()  # raises where it was asked for and does not fit
    if trains:
        _check_memory(experiment, out, fresh=fresh)
    check_folder(out, recipe, fresh=fresh, grows=grows)
    return experiment


def _check_scores(experiment: Experiment, out: Path, *, fresh: bool) -> None:
    """Refuse arms that rank by scores where there will be none."""
    recipe = experiment.recipe
    ranked = [arm for arm, method in recipe.arms.items() if method.init in BY_SCORE]
    if not ranked:
        if recipe.teacher.scores is not None:
            say_once(
                f"note: teacher.scores {recipe.teacher.scores} is not read, since no arm's init ranks real "
                f"images by scores ({', '.join(BY_SCORE)})"
            )
        return
    if recipe.teacher.scores is not None:
        experiment.scores(RunFolder(out))  # raises where they do not fit
    elif not experiment.teachers[0].is_trained:
        raise InputError(
            f"arms.{ranked[0]}.init {recipe.arms[ranked[0]].init} ranks real images by how hard they were in "
            f"a training, but the teacher is given; make scores with `fastdd score {recipe.name}`, with the "
            "overrides of this run, and give teacher.scores=FILE"
        )


def _check_candidates(experiment: Experiment, arm: str, out: Path, *, fresh: bool) -> None:
    """Refuse images from elsewhere that are too few, of another size, or would be deleted."""
    method, found, real = experiment.arms[arm], experiment.candidates[arm], experiment.real
    key, path = f"arms.{arm}.candidates", method.candidates
    assert path is not None  # it has candidates
    if fresh:
        refuse_deleting(key, path, out)
    used, number = len(experiment.teachers_of(arm)), len(experiment.classes)
    wanted = recover.real_slots(method, experiment.recipe.ipc, number, used)
    if wanted > (fewest := min(found.counts)):
        name = found.classes[found.counts.index(fewest)]
        raise InputError(
            f"{key}: {path} has {counted(fewest, 'image')} of class {name!r}, but the arm starts from "
            f"{wanted} of each; add images, or lower ipc"
        )
    if real.data.size is None:
        shape = tuple(found.reader.pixels(0, real.data.channels).shape)
        if shape != real.shape:
            theirs, ours = (" x ".join(map(str, each[1:])) for each in (shape, real.shape))
            raise InputError(
                f"{key}: images of {path} have {theirs} pixels and the real ones {ours}; set data.size, to "
                "which both are resized"
            )


def _with_networks(recipe: Recipe, real: RealData) -> Recipe:
    """The recipe with what ``network: convnet`` means for its images, so that the run folder says it.

    Raises:
        InputError: there is no ConvNet for images of this shape.
    """
    classes, sizes = len(real.classes), possible_sizes(real)

    def meant(key: str, name: str, follows: bool) -> str:
        others = () if follows else ("resnet20",)  # which keeps statistics
        return network_for(key, name, classes, real.shape, sizes=sizes, others=others)

    return with_networks(recipe, meant)


def _check_students(experiment: Experiment) -> None:
    """Refuse protocols, formations and networks that could not use the images that the arms will have."""
    real, teacher = experiment.real, experiment.recipe.teacher
    for arm, method in experiment.arms.items():
        if method.formation is not None:
            check_formation(method.formation, real.shape, f"arms.{arm}.formation")
            if method.formation.tiled:
                say_once(small_tiles(f"arms.{arm}.formation", method.formation, real.shape[1:]))
            _check_enough_images(experiment, arm)
        _check_first_images(experiment, arm)
    classes = len(experiment.classes)
    labeller = outline("teacher.network", teacher.network, classes, real.shape, trains=False).train()
    for student in experiment.students:
        _check_student(experiment, student, labeller)


def _check_memory(experiment: Experiment, out: Path, *, fresh: bool) -> None:
    """Refuse sets that a student could not hold in memory beside the images that it is tested on."""
    recipe, real, folder = experiment.recipe, experiment.real, RunFolder(out)
    if not recipe.metrics.students:
        return
    processes = 1 if experiment.device.type == "cuda" else world_size()
    tested = processes * bytes_of_set(len(real.evaluation_set), real.shape)
    budget = budget_of_sets(experiment.device, tested)
    for (student, config), (arm, method) in product(experiment.students.items(), experiment.arms.items()):
        files = [folder.student(arm, seed, student) for seed in range(config.seeds)]
        if not recipe.learns(student, arm) or (not fresh and all(file.is_file() for file in files)):
            continue
        images = experiment.seen(arm) * len(experiment.classes)
        per_file = 1 if method.formation is None else method.formation.images
        needed = processes * bytes_of_set(images, real.shape, per_file)
        if needed > budget:
            raise InputError(
                f"students of arm {arm!r} hold its {counted(images, 'image')} in memory, {needed:,} bytes "
                f"beside {tested:,} of the images that they are tested on, but only {budget:,} may be used "
                "for the former; lower ipc, set a smaller data.size, or train no students "
                "(metrics.students=false)"
            )


def _check_enough_images(experiment: Experiment, arm: str) -> None:
    """Refuse a formation that takes more real images of a class to start from than there are."""
    wanted, ipc, counts = experiment.seen(arm), experiment.recipe.ipc, experiment.real.train.counts
    if experiment.arms[arm].candidates is not None:
        return  # which _check_candidates counts
    if wanted > (fewest := min(counts)):
        most = fewest * ipc // wanted
        raise InputError(
            f"arms.{arm}.formation puts {wanted // ipc} real images into one, so ipc {ipc} takes {wanted} "
            f"of a class, but class {experiment.classes[counts.index(fewest)]!r} holds {fewest} of train; "
            + (f"set ipc to {most} or less" if most else "put fewer into one")
        )


def _check_first_images(experiment: Experiment, arm: str) -> None:
    """Refuse a selection among fewer images of a class than it has to choose."""
    method, ipc = experiment.arms[arm], experiment.recipe.ipc
    teachers = len(experiment.teachers_of(arm))
    wanted = recover.real_slots(method, ipc, len(experiment.classes), teachers)
    if method.init_first != "all" and wanted > method.init_first:
        raise InputError(
            f"arms.{arm}.init_first is {method.init_first}, but {wanted} real images of a class are chosen "
            f"for ipc {ipc}; set it to {wanted} or more, or to all"
        )


def _check_student(experiment: Experiment, student: str, labeller: nn.Module) -> None:
    """Refuse a student's network, batches and labels that do not go together; ``labeller`` is the teacher."""
    config, key, classes = experiment.students[student], student_section(student), len(experiment.classes)
    network = outline(
        f"{key}.network",
        config.network,
        classes,
        experiment.real.shape,
        sizes=possible_sizes(experiment.real),
        others=("convnet", "resnet20"),
    ).train()
    normalizing = {config.network: network}
    if config.teacher_mode == "train" and config.labels == "online":
        normalizing["the teacher in train mode"] = labeller
    learned = [arm for arm in experiment.arms if experiment.recipe.learns(student, arm)]
    for arm in learned:
        settled = experiment.protocol(arm, student)
        smallest = evaluate.smallest_batch(settled.images, settled.batch)
        evaluate.check_batch_norm(settled, normalizing, smallest, key)
    stored = experiment.recipe.labels_of(student)
    if config.labels == "stored" and stored.per == "view":
        labels.check_views(stored, config, key)
        for arm in learned:
            settled = experiment.protocol(arm, student)
            labels.check_form(stored, labels.label_epochs(stored, settled), classes)
            labels.check_pool(stored, settled)

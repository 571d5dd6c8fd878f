"""A recipe: the sections of a run put together, and what must agree between them."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, JsonValue, field_validator, model_validator

from ..runtime.console import counted
from .base import All, Config, Count, Natural, Positive, Precision, Seed, Side, Text
from .data import Data, Teacher
from .labels import Labels
from .matching import Siamese
from .method import BY_EMBEDDING, CONTROL, FULL, Method
from .published import Published
from .student import Student

Tracker = Literal["csv", "tensorboard", "wandb", "mlflow"]
LONGEST_NAME = 200
"""bytes of the name of a recipe or an arm; file systems take 255, and stages append to a name"""


class Bank(Config):
    """How the statistics of the real images are gathered and stored; which ones, the arms' terms decide."""

    batch: Count = 250
    """images a forward pass"""
    precision: Precision = "fp32"
    """arithmetic of the forward pass; statistics are always float32"""
    compile: bool = False
    """compile the forward pass"""
    layers: tuple[Text, ...] = ()
    """layers whose statistics are kept beside those that the arms' terms need: kinds (stages, blocks,
    bn_inputs) and module paths, such as "features.*", with * for one part of a path and ** for any number"""
    form: Literal["full", "packed", "lowrank"] = "packed"
    """how a D x D covariance is stored. full: whole; packed: its lower triangle; lowrank: the leading
    eigenpairs, and the diagonal of the rest"""
    rank: Count = 64
    """lowrank: eigenpairs that are kept"""
    dtype: Literal["fp32", "bf16"] = "fp32"
    """numbers of a stored covariance"""
    class_bn: Literal["none", "true", "running"] = "none"
    """BatchNorm statistics of each class. true: over all pixels of all images; running: as LPLD gathered
    them, a running average over mini-batches that hold few images of a class, which lacks the variance
    between images"""
    class_bn_group: Count = 1
    """running: images of a class in a mini-batch"""
    patch: Side | None = None
    """side in pixels of the patches for terms.conv: the bank then keeps, class by class, statistics of single
    images at all inputs of convolutions and BatchNorms, of channels and of such patches; null: as the arms'
    terms need"""
    embeddings: Natural | All = "all"
    """real embeddings kept of each class, a seeded choice. The metrics compare with all real images whatever
    is kept: where the bank lacks some, a second pass of the teacher over the real images gives them"""
    shard_mb: Positive = 8
    """largest file in megabytes; a class that takes more has a file of its own"""


class Recover(Config):
    """How the work of recover is cut and computed, which changes results by rounding alone."""

    unit_images: Count | Literal["auto"] = "auto"
    """images optimized together; a unit holds as many whole batches as fit, at least one. auto: on a CPU 100,
    on a GPU as many as its free memory holds, at most 1000; fewer where the memory is scarce, or processes
    would have none. It is decided once for a run folder"""
    precision: Precision = "fp32"
    """arithmetic of the steps: fp32, tf32, bf16, or auto: bf16 where the hardware multiplies it, else fp32"""
    compile: bool | Literal["auto"] = "auto"
    """one compiled graph for all units of a shape; auto: on a CPU, for an arm with work enough to repay the
    compiler"""
    capture: bool | Literal["auto"] = "auto"
    """a unit's steps as a CUDA graph, which is recorded once and replayed; auto: on a GPU, for an arm that
    matches nothing and whose terms and networks are no code of the user's own"""
    log_every: Count = 20
    """steps between two lines in the log of losses"""
    checkpoint_every: Count = 50
    """steps between two checkpoints inside a unit, where a method optimizes all images in one"""


class Metrics(Config):
    """What is measured of the arms beside the accuracy of students."""

    nearest_k: Count = 5
    """coverage: a real image is covered by a distilled one that is nearer than its nearest_k-th real
    neighbor"""
    full_set: bool | Literal["auto"] = "auto"
    """true: also train students on the whole real training set, for as many steps; auto: where its images fit
    into memory"""
    interval: Annotated[float, Field(gt=0, le=100)] = 1.0
    """half width, in percentage points, that is wanted of the 95 % intervals of differences from the control;
    the number of seeds that this takes is suggested"""
    features: str | None = None
    """features in which coverage, Vendi score and cosine are measured beside the teacher's: clip:FILE or
    clip-quickgelu:FILE, with weights of CLIP; null: none"""
    students: bool = True
    """false: no students are trained, so that the arms have no accuracies"""

    @field_validator("features")
    @classmethod
    def _are_clips(cls, name: str | None) -> str | None:
        if name is not None and not re.match("clip(-quickgelu)?:.", name):
            raise ValueError(
                f"expected clip:FILE or clip-quickgelu:FILE, got {name!r}; `fastdd metrics RUN --features "
                "NETWORK` takes other networks"
            )
        return name


class Experts(Config):
    """The networks whose trajectories are matched (MTT, TESLA), and how they are trained.

    Only arms with ``match.trajectory`` use them; the network is that of those arms. Learning rate, batch and
    augmentation are those of the released MTT code: SGD without momentum, decay or schedule.
    """

    path: str | None = None
    """another run, or its folder `experts`, whose finished experts are used as they are; null: the experts
    stage trains them"""
    count: Count = 100
    """experts, each from other random weights"""
    keep: Count | Literal["auto"] = "auto"
    """epochs that an expert is trained and its weights are kept. auto: as far as trajectories reach,
    latest_start - 1 + epochs, which changes nothing because the learning rate is constant"""
    images_per_class: Count | None = None
    """real images of each class that experts learn from, a seeded choice; null: all of them"""
    lr: Positive = 0.01
    """learning rate of SGD"""
    batch: Count = 256
    """images a step"""
    siamese: Siamese = Siamese()
    """augmentation: each step draws one of the operations, with parameters an image"""
    group: Count | Literal["auto"] = "auto"
    """experts trained together, which changes their weights by rounding alone. auto: 1 on a CPU, where one
    after another is faster, 10 on a GPU"""
    precision: Precision = "fp32"
    """arithmetic of the training; weights are float32"""


class Point(Config):
    """Where an arm lies that a sweep made by setting some values of one of the recipe's arms."""

    of: str
    """name of the recipe's arm"""
    title: str
    """title of the recipe's arm, which no other arm of the recipe has"""
    at: dict[str, JsonValue]
    """the values that were set, by ``method.`` and their path in the method"""


class Sweep(Config):
    """The arms that lie on a grid."""

    keys: tuple[str, ...] = ()
    """keys of the grid, in its order"""
    points: dict[str, Point] = Field(default_factory=dict)
    """places on the grid, by arm"""


class Recipe(Config):
    """A run: data, teachers, the arms that are compared, and the protocols of the students."""

    name: str
    """name of the run, and of its folder below runs/; a file that says none has the file's own name"""
    description: str = ""
    """a sentence for people, which stands on the page"""
    dataset: str | None = None
    """name of the data set whose values the recipe takes, for example cifar100; null: it takes none"""
    ipc: Count = 10
    """distilled images a class"""
    seed: Seed = 0
    """the seed from which all random draws of the run derive"""
    device: str = "auto"
    """auto: cuda where there is one, else cpu"""
    data: Data = Data()
    teacher: Teacher = Teacher()
    committee: dict[str, Teacher] = Field(default_factory=dict)
    """further teachers by name, for methods that use several (method.ensemble, method.offset)"""
    arms: dict[str, Method]
    """the methods that are compared, by name; the control `random`, random real images, is always run beside
    them"""
    bank: Bank = Bank()
    experts: Experts = Experts()
    recover: Recover = Recover()
    labels: Labels = Labels()
    student: Student = Student()
    students: dict[str, Student] = Field(default_factory=dict)
    """further students by name: every arm and both controls are evaluated with them too, each under its own
    protocol, since a set is made for a network and a kind of labels"""
    student_arms: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """arms that a further student learns from beside the control and the whole training set, by the student's
    name, for example {infer: [infer, infer+dire]}; a student without an entry learns from all arms"""
    student_labels: dict[str, Labels] = Field(default_factory=dict)
    """how the labels of a further student are stored, by the student's name, over the section `labels`, for
    example {small: {form: int4}}; table and page then tell the bytes of labels beside the accuracies"""
    student_views: dict[str, str] = Field(default_factory=dict)
    """arm whose set came with labels of views (`given.views`) that students of a further kind learn, by the
    student's name; the control's images are then labelled in the same views. Written by `fastdd judge`"""
    metrics: Metrics = Metrics()
    sweep: Sweep = Sweep()
    """the arms that lie on a grid, and where; written by `fastdd sweep`"""
    published: Published | None = None
    """numbers of a paper that are shown beside the run's own; null: there are none"""
    log: tuple[Tracker, ...] = ()
    """trackers that get what a run tells while it works, beside log.jsonl in its folder; the saved recipe is
    without it, since it changes no result: each command gives its own"""

    def learns(self, student: str, arm: str) -> bool:
        """Whether students of a kind learn from an arm, the control or the whole training set.

        Args:
            student: a name in ``students``; empty for the section ``student``, which learns from all.
        """
        return arm not in self.arms or arm in self.student_arms.get(student, self.arms)

    @property
    def is_judgement(self) -> bool:
        """Whether all arms are finished sets, as `fastdd judge` has them."""
        return bool(self.arms) and all(arm.given is not None for arm in self.arms.values())

    @property
    def all_teachers(self) -> dict[str, Teacher]:
        """The run's own teacher under an empty name, then those of the committee."""
        return {"": self.teacher, **self.committee}

    @property
    def all_students(self) -> dict[str, Student]:
        """The section ``student`` under an empty name, then the further students."""
        return {"": self.student, **self.students}

    @property
    def shown_students(self) -> dict[str, Student]:
        """``all_students`` without those of ``label_rates``, which stand in a table of their own; empty where
        none are trained."""
        if not self.metrics.students:
            return {}
        return {name: each for name, each in self.all_students.items() if name not in self.label_rates}

    @property
    def label_rates(self) -> dict[str, Labels]:
        """The further students that only store their labels otherwise, by name: ``student_labels`` without
        those that learn views which came with a set; empty where none are trained."""
        if not self.metrics.students:
            return {}
        return {name: own for name, own in self.student_labels.items() if name not in self.student_views}

    def labels_of(self, student: str) -> Labels:
        """How the labels of a kind of students are stored; empty for the section ``student``."""
        return self.student_labels.get(student, self.labels)

    @field_validator("log")
    @classmethod
    def _each_tracker_once(cls, trackers: tuple[Tracker, ...]) -> tuple[Tracker, ...]:
        for tracker in trackers:
            if trackers.count(tracker) > 1:
                raise ValueError(f"{tracker!r} is there twice; give each tracker once")
        return trackers

    @field_validator("student_arms", mode="before")
    @classmethod
    def _lists_of_arms(cls, given: object) -> object:
        if not isinstance(given, dict):
            return given
        return {name: tuple(arms) if isinstance(arms, list) else arms for name, arms in given.items()}

    @field_validator("name")
    @classmethod
    def _stays_in_its_folder(cls, name: str) -> str:
        too_long = len(name.encode(errors="replace")) > LONGEST_NAME
        if not name.strip(". ") or "/" in name or name[0] == "-" or not name.isprintable() or too_long:
            raise ValueError(
                f"{name[:LONGEST_NAME]!r} becomes a folder name; use letters and digits, without '/', and at "
                f"most {LONGEST_NAME} bytes"
            )
        return name

    @model_validator(mode="after")
    def _arms_have_free_names(self) -> Recipe:
        taken = {
            CONTROL: "the built-in control of random real images",
            FULL: "the built-in reference, the whole training set",
            "real": "the real images' embeddings",
            "real_labels": "the real images' classes",
        }
        for name in self.arms:
            if name in taken:
                raise ValueError(f"arms.{name} is the name of {taken[name]}; give the arm another name")
            if not _names_a_folder(name):
                raise ValueError(
                    f"arms: {name!r} becomes a folder name; use letters, digits, '+', '-' and '_'"
                )
        if missing := self.sweep.points.keys() - self.arms.keys():
            raise ValueError(f"sweep.points.{min(missing)} names no arm; arms: {', '.join(self.arms)}")
        return self

    @model_validator(mode="after")
    def _arms_use_teachers_that_are_there(self) -> Recipe:
        for arm, method in self.arms.items():
            for name in method.committee or ():
                if (method.committee or ()).count(name) > 1:
                    raise ValueError(f"arms.{arm}.committee has {name!r} twice; give each teacher once")
                if name not in self.committee:
                    raise ValueError(
                        f"arms.{arm}.committee: there is no further teacher {name!r}; committee: "
                        f"{', '.join(self.committee) or 'none'}"
                    )
        return self

    @model_validator(mode="after")
    def _students_have_free_names(self) -> Recipe:
        for name in self.students:
            if not _names_a_folder(name):
                raise ValueError(
                    f"students.{name}: the name becomes a folder name; use letters, digits, '+', '-' and '_'"
                )
            if name in (CONTROL, FULL, *self.arms):
                raise ValueError(f"students.{name} has the name of an arm; give the student another name")
        for name, arms in self.student_arms.items():
            if name not in self.students:
                raise ValueError(
                    f"student_arms.{name} names no further student; students: "
                    f"{', '.join(self.students) or 'none'}"
                )
            if not arms:
                raise ValueError(f"student_arms.{name} names no arm; leave that student out instead")
            for arm in arms:
                if arm not in self.arms:
                    raise ValueError(
                        f"student_arms.{name}: there is no arm {arm!r}; arms: {', '.join(self.arms)}"
                    )
        for name, labels in self.student_labels.items():
            if name not in self.students or self.students[name].labels != "stored":
                raise ValueError(
                    f"student_labels.{name} is of no further student whose labels are stored; students: "
                    f"{', '.join(self.students) or 'none'}"
                )
            if labels.per != "view" or (self.labels.per != "view" and name not in self.student_views):
                raise ValueError(
                    f"student_labels.{name} needs labels of views; set labels.per to view, got "
                    f"{self.labels.per}"
                )
        return self

    @model_validator(mode="after")
    def _views_came_with_their_sets(self) -> Recipe:
        for name, arm in self.student_views.items():
            given = self.arms[arm].given if arm in self.arms else None
            if given is None or given.views is None:
                raise ValueError(f"student_views.{name}: no labels of views came with {arm!r}; leave it out")
            if self.student_arms.get(name) != (arm,) or name not in self.student_labels:
                raise ValueError(
                    f"student_views.{name} needs student_arms.{name} to be [{arm}], and student_labels.{name}"
                )
        return self

    @model_validator(mode="after")
    def _ranked_images_have_embeddings(self) -> Recipe:
        for name, arm in self.arms.items():
            ranks = arm.init in BY_EMBEDDING and arm.candidates is None
            if ranks and self.bank.embeddings != "all":
                raise ValueError(
                    f"arms.{name}.init {arm.init} ranks all real images by their embeddings; set "
                    f"bank.embeddings to all, got {self.bank.embeddings}"
                )
            anchor = "initial" if arm.residual is None else arm.residual.anchor
            if anchor != "initial" and self.bank.embeddings != "all":
                raise ValueError(
                    f"arms.{name}.residual.anchor {anchor} compares with the embeddings of all real images; "
                    f"set bank.embeddings to all, got {self.bank.embeddings}"
                )
        return self

    @model_validator(mode="after")
    def _teachers_see_the_same_images(self) -> Recipe:
        for name, teacher in self.committee.items():
            if not name.replace("_", "").isalnum():
                raise ValueError(f"committee: {name!r} becomes a file name; use letters, digits and '_'")
            if teacher.scores is not None:
                raise ValueError(
                    f"committee.{name}.scores is not read, since arms rank by teacher.scores alone; "
                    "set it to null"
                )
            if (teacher.mean, teacher.std) != (self.teacher.mean, self.teacher.std):
                raise ValueError(
                    f"committee.{name} has another mean or std than teacher; all see the same images, so "
                    "give all of them the same"
                )
        for name, values in (("mean", self.teacher.mean), ("std", self.teacher.std)):
            if len(values) != self.data.channels:
                raise ValueError(
                    f"teacher.{name} has {counted(len(values), 'value')}, expected one for each of the "
                    f"{self.data.channels} channels of data.channels"
                )
        return self


def _names_a_folder(name: str) -> bool:
    return re.sub(r"[-+_]", "", name).isalnum() and len(name.encode()) <= LONGEST_NAME


def as_plain(recipe: Recipe) -> dict[str, JsonValue]:
    """The recipe as JSON-like values, as it is saved and compared.

    What most recipes lack is left out where it says nothing: ``dataset``, ``students``, ``student_arms``,
    ``student_labels``, ``student_views``, ``sweep``, ``published``, ``metrics.students``, and the keys of
    ``data`` that are of the validation split. ``log`` is always left out.
    """
    absent = {
        "dataset": recipe.dataset is None,
        "students": not recipe.students,
        "student_arms": not recipe.student_arms,
        "student_labels": not recipe.student_labels,
        "student_views": not recipe.student_views,
        "sweep": not recipe.sweep.points,
        "published": recipe.published is None,
        "log": True,
    }
    excluded: dict[str, bool | set[str]] = {name: True for name, is_absent in absent.items() if is_absent}
    if recipe.metrics.students:
        excluded["metrics"] = {"students"}
    if recipe.data.validation is None:
        excluded["data"] = {"validation", "validation_seed", "evaluate"}
    return recipe.model_dump(mode="json", exclude=excluded)

"""What the JSON files of a run folder say, as types; reading.py and manifest.py read them.

Fields are the keys of the files, in their order; those of the last base come first.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, JsonValue

from ..config import FULL
from ..config.student import Regime
from .comparison import Difference, EvaluatedOn
from .published import PublishedResult
from .reading import Record

# -- manifest.json -------------------------------------------------------------------------------


class Versions(Record):
    """Versions of what computed the run."""

    torch: str
    python: str


class Machine(Record):
    """The machine on which the run began."""

    cpu: str
    """name of the processor"""
    cores: int | None
    """logical cores of the machine; null: the system does not say"""
    threads: int
    """threads of torch"""
    device: str
    """name of the GPU, or cpu"""


class StageWork(Record):
    """Work of one stage, summed over all sessions of the run."""

    seconds: float
    images: int
    """images seen; of recover image-iterations"""


class Manifest(Record):
    """manifest.json: where the run comes from, and what it cost."""

    format: int
    """FORMAT of the version that made the folder"""
    fastdd: str
    """version of fastdd"""
    versions: Versions
    machine: Machine
    recipe_hash: str
    """first 12 hex digits of the resolved recipe's sha256"""
    fingerprints: dict[str, str]
    """sha256 of the code, the splits (``train``, ``validation``, ``test``), teachers and their initial
    weights; and, as ``labels ARM``, of the files of the images that an arm's soft labels are of"""
    stages: dict[str, StageWork]
    """work by stage, such as ``bank`` or ``recover deda``"""
    full_set_left_out: str | None
    """why no students learn from the whole training set; null: they do"""
    skipped: dict[str, list[str]] | None = None
    """names and faults of unreadable images, by split; absent: none was skipped"""
    settings_hash: str | None = None
    """``settings_hash`` of recipe.yaml as the run began, or as sets were last added to it (``fastdd judge``);
    absent: an earlier version made the run"""
    next_settings_hash: str | None = None
    """``settings_hash`` of the recipe.yaml that is being written, with sets added; absent: none is"""


def stage_of(name: str, student: str, arm: str) -> str:
    """Key in ``Manifest.stages``: ``students deda``, or ``students NAME deda`` of further students."""
    return " ".join(part for part in (name, student, arm) if part)


# -- metrics.json --------------------------------------------------------------------------------

Curve = tuple[tuple[int, float], ...]
"""(steps done, test accuracy) of each test of a student"""


class DataResult(Record):
    """The real images."""

    root: str
    train: int
    """images of the training split"""
    test: int
    """images of the test split"""
    validation: int | None = None
    """images of the validation split, which are no training images; absent: there is none"""
    evaluated_on: EvaluatedOn = "test"
    """split that students are tested on; absent: the test images"""
    seen_by: tuple[str, ...] = ()
    """given teachers that may have seen the validation images, such as ``teacher``; absent: none"""

    @property
    def evaluated(self) -> int:
        """Number of images that students are tested on."""
        return self.validation if self.evaluated_on == "validation" and self.validation else self.test


class TeacherResult(Record):
    """The teacher of the run."""

    network: str
    accuracy: float | None
    """top-1 accuracy, a fraction, on the validation images where there are some, else on the test images;
    null: its card does not say it"""


class ProtocolResult(Record):
    """What all students of a section went through."""

    text: str
    """the protocol in a line"""
    hash: str
    """eight hex digits; accuracies compare only where these are equal"""
    seeds: int
    """students an arm; 0: none were trained, and no accuracy is told"""
    network: str | None = None
    """the students' network; absent: an earlier version measured"""
    regime: Regime | None = None
    """where their labels come from (config/student.py); absent: an earlier version measured"""


class Finding(Record):
    """One thing that whoever judges a set should know (evaluate/validity.py)."""

    kind: Literal["leak", "fault", "note"]
    """leak: test images are in the set; fault: it is not what a set should be; note: worth a look"""
    text: str
    """a clause without a full stop"""


MAY_ESCAPE = (
    "crops of test images of less than 60 % of their side, mosaics of other tiles than 2 x 2 and 3 x 3, "
    "crops and mosaics in less than a tenth of a set, and images that are turned, recolored or blended may "
    "escape"
)
"""test images that nothing looks for, or that are often not found (evaluate/pieces.py), as a clause"""


class RobustScores(Record):
    """DD-Ranking's scores of a set, of students with soft labels (evaluate/dd_ranking.py), in [0, 1]."""

    label: float | None = None
    """label-robust score (LRS), 0.269 for a set that neither gains nor loses; absent: no students tell it"""
    augmentation: float | None = None
    """augmentation-robust score (ARS), likewise; absent: no students without augmentation are there"""


class Shipped(Record):
    """What the students of one kind need of a set beside code.

    A set is cheap in images and dear in labels, or the other way round, so sets compare at equal bytes of all
    that their students read.
    """

    images: int
    """bytes of the image files"""
    labels: int
    """bytes of the stored soft labels; 0: none are read"""
    teacher: int
    """bytes of the weights of the teachers that label while a student trains; 0: none does"""
    forwards: int
    """images that teachers label for one student: while it trains, or beforehand where labels are stored"""

    @property
    def total(self) -> int:
        """Bytes of all that is read."""
        return self.images + self.labels + self.teacher


class Accuracies(Record):
    """Students of one kind; accuracies are fractions, one a student."""

    last: tuple[float | None, ...]
    """test accuracy after the last step; null: the student diverged"""
    best: tuple[float | None, ...]
    """largest test accuracy of any test during the training; null: the student diverged"""
    curves: tuple[Curve, ...]
    diverged: tuple[str | None, ...] = ()
    """how each student diverged, null for one that did not; absent: none did"""


class StudentAccuracies(Accuracies):
    """The students of a section on one set."""

    learned_from: str | None = None
    """as in the students' files"""
    above_control: Difference | None = None
    """difference of ``last`` from that of the control's students, seed by seed; absent: this is the control,
    a student diverged, or an earlier version wrote the file"""
    shipped: Shipped | None = None
    """bytes that these students read; absent: an earlier version wrote the file"""
    robust: RobustScores | None = None
    """DD-Ranking's scores with these students; absent: the run's kinds of students tell none"""


class FeatureDiversity(Record):
    """The diversity of an arm's images in the features that ``metrics.features`` names."""

    coverage: float
    vendi: float
    cosine: float


class DescribedSet(Record):
    """What is told of an arm before its students."""

    title: str
    seen: int
    """images a class that students see"""
    reduced: str | None = None
    """what the arm has less of than its method declares, so that it is no result of the method, such as ``400
    of the method's 4,000 steps``; absent: nothing, or the method declares nothing for these images"""
    images: str | None = None
    """fingerprint of the files of its images; absent: an earlier version measured it"""
    findings: tuple[Finding, ...] | None = None
    """what was found wrong with its images and claims, leaks first; null: it was not looked at, which
    `fastdd judge` does"""


class ArmResult(StudentAccuracies, DescribedSet):
    """One arm: the students of the section ``student``, and the diversity of its images."""

    multiply_adds: int | None = None
    """multiply-adds that recover took for an image; null: they are not counted for this method"""
    coverage: float
    """share of the real images that have a distilled one within their k nearest neighbours' distance"""
    vendi: float
    """mean of the classes' Vendi scores, 1 to the number of images a class"""
    cosine: float
    """mean of the classes' mean cosine of pairs of images"""
    vendi_by_class: tuple[float, ...]
    cosine_by_class: tuple[float, ...]
    features: FeatureDiversity | None = None
    """the same measures in other features; absent: the recipe names none"""
    students: dict[str, StudentAccuracies] = Field(default_factory=dict)
    """the further students that learned from it, by name; absent: there are none"""

    @property
    def kinds(self) -> dict[str, StudentAccuracies]:
        """The students of each kind that learned from it, those of the section ``student`` under an empty
        name."""
        return {"": self, **self.students}

    @property
    def marked_title(self) -> str:
        """Its title, followed by ``(reduced)`` where it is no result of its method, and by ``(holds test
        images)`` where its accuracies say nothing."""
        marks = {"reduced": self.reduced is not None, "holds test images": self.leaks}
        return " ".join([self.title, *(f"({mark})" for mark, is_so in marks.items() if is_so)])

    @property
    def leaks(self) -> bool:
        """Whether test images are in it, so that its accuracies say nothing of what it is worth."""
        return any(each.kind == "leak" for each in self.findings or ())


class FullSetAccuracies(StudentAccuracies):
    """The students of a section on the whole real training set."""

    images: int
    """real images that the students see"""


class FullSet(Record):
    """What is told of the whole real training set before its students."""

    title: str
    images: int
    """real images that the students see"""


class FullSetResult(Accuracies, FullSet):
    """The whole real training set, and the students of the section ``student``."""

    students: dict[str, FullSetAccuracies] = Field(default_factory=dict)
    """the further students of the recipe, by name; absent: it has none"""


class Metrics(Record):
    """metrics.json: all that a run measured, and under which protocol."""

    recipe: str
    """name of the recipe"""
    description: str
    classes: tuple[str, ...]
    """names in the order of the labels"""
    ipc: int
    """images a class"""
    seed: int
    data: DataResult
    teacher: TeacherResult
    protocol: ProtocolResult
    k: int
    """neighbours of the coverage"""
    arms: dict[str, ArmResult]
    """the control ``random`` first, then the recipe's arms"""
    full_set: FullSetResult | None
    """null: left out"""
    full_set_left_out: str | None = None
    """why the whole training set is left out; absent: it is not"""
    students: dict[str, ProtocolResult] = Field(default_factory=dict)
    """protocols of the recipe's further students, by name; absent: it has none"""
    published: PublishedResult | None = None
    """a paper's numbers beside these; absent: the recipe has none"""
    digest: str | None = None
    """first 16 hex digits of the sha256 of all other keys, which tells of edits that were not meant to
    deceive; absent: an earlier version measured it"""

    def __repr__(self) -> str:
        """The recipe and the arms; their numbers are many."""
        return f"Metrics(recipe={self.recipe!r}, ipc={self.ipc}, arms={list(self.arms)})"

    __str__ = __repr__

    @property
    def protocols(self) -> dict[str, ProtocolResult]:
        """The protocol of each kind of students, that of the section ``student`` under an empty name."""
        return {"": self.protocol, **self.students}

    def last(self, student: str = "") -> dict[str, tuple[float | None, ...]]:
        """Accuracies after the last step of every arm that students of a kind learned from, and of the whole
        training set under the name ``full``.

        Args:
            student: a name in ``students``; empty for the recipe's section ``student``.
        """
        return {name: each.last for name, each in self.students_of(student).items()}

    def differences(self) -> list[Difference]:
        """Differences from the control of all arms, with all kinds of students."""
        found = []
        for arm in self.arms.values():
            found += [students.above_control for students in arm.kinds.values()]
        return [each for each in found if each is not None]

    def diverged(self) -> list[str]:
        """A line for each set of which students diverged, such as ``deda: 1 of 3 students: seed 2 diverged at
        step 7: its loss is nan``."""
        lines = []
        for student in ("", *self.students):
            for name, each in self.students_of(student).items():
                how = [f"seed {seed} {text}" for seed, text in enumerate(each.diverged) if text is not None]
                if how:
                    kind = f"{student} students" if student else "students"
                    lines.append(f"{name}: {len(how)} of {len(each.last)} {kind}: {how[0]}")
        return lines

    def students_of(self, student: str = "") -> dict[str, Accuracies]:
        """The students of one kind, by the set that they learned; the whole training set is ``full``."""
        sets: dict[str, ArmResult | FullSetResult] = dict(self.arms)
        if self.full_set is not None:
            sets[FULL] = self.full_set
        if not student:
            return {**sets}
        return {name: each.students[student] for name, each in sets.items() if student in each.students}


# -- the other files -----------------------------------------------------------------------------


class DataSplit(Record):
    """One split in data.json."""

    layout: str
    """how the images lie on the disk, in words"""
    split: str
    """``train``, ``validation`` or ``test``"""
    images: int
    classes: tuple[str, ...]
    """names in the order of the labels"""
    counts: tuple[int, ...]
    """images of each class"""
    fingerprint: str
    """sha256, hex"""
    fingerprint_of: str
    """``names`` or ``contents``"""


class TeacherTraining(Record):
    """squeeze.json: how a teacher was trained here."""

    settings: dict[str, JsonValue] | None
    epochs: tuple[dict[str, int | float], ...]
    """epoch, learning rate, mean loss and test accuracy (a fraction)"""


class UnitPlan(Record):
    """plan.json of an arm's recovery."""

    unit_images: int
    """images optimized together, at most"""


class UnitLog(Record):
    """unit_INDEX.json of an arm's recovery."""

    rows: tuple[tuple[int, int], ...]
    """(class, slot) of each image"""
    losses: tuple[dict[str, int | float], ...]
    """``step`` and the value of each term, every ``recover.log_every`` steps"""
    learned: dict[str, float] = Field(default_factory=dict)
    """numbers that were learned or measured with the images, such as the learning rate ``lr`` of MTT"""

    def by_step(self) -> list[tuple[int, dict[str, float]]]:
        """(step, value of each term) of every record."""
        terms = [{name: value for name, value in record.items() if name != "step"} for record in self.losses]
        return [(int(record["step"]), values) for record, values in zip(self.losses, terms, strict=True)]


class StudentResult(Record):
    """seed_SEED.json: the test accuracy of one student, as fractions."""

    seed: int
    last: float | None
    """null: the student diverged"""
    best: float | None
    curve: Curve
    diverged: str | None = None
    """how it diverged; absent: it did not"""
    learned_from: str | None = None
    """fingerprint of the images, and of their stored labels if it learned those; absent: it learned the whole
    training set, or an earlier version trained it"""


class SweepScores(Record):
    """Scores of the control of a sweep's run; as in metrics.json."""

    last: tuple[float | None, ...]
    best: tuple[float | None, ...]
    diverged: tuple[str | None, ...] = ()
    coverage: float
    vendi: float
    cosine: float


class SweepPlace(Record):
    """Where an arm of a sweep's run lies on the grid."""

    of: str
    """the arm of the recipe that was varied"""
    title: str
    at: dict[str, JsonValue]
    """its values of the grid's keys; empty: no key concerns it"""


class SweepArm(SweepScores, SweepPlace):
    """Place and scores of one arm of a sweep's run."""

    multiply_adds: int | None = None
    """as in metrics.json"""


class SweepWinner(Record):
    """The arm of a sweep with a validation split that is the best on the validation images, and what it and
    the control of its run reach on the test images, which are read for them alone."""

    folder: str
    """folder of its run below the sweep's"""
    arm: str
    title: str
    at: dict[str, JsonValue]
    """its values of the grid's keys"""
    ipc: int
    """it is the best of all with as many images a class"""
    last: tuple[float | None, ...]
    """test accuracy after the last step, a fraction, of each of its students"""
    control: tuple[float | None, ...]
    """that of the control's students"""


class SweepRun(Record):
    """One run of a sweep."""

    folder: str
    """below the sweep's folder; empty: that folder itself"""
    at: dict[str, JsonValue]
    """the run's values of the grid's keys"""
    protocol: ProtocolResult
    control: SweepScores
    arms: dict[str, SweepArm]


class SweepResults(Record):
    """sweep.json."""

    recipe: str
    keys: tuple[str, ...]
    """keys of the grid; the first goes across the figure"""
    runs: tuple[SweepRun, ...]
    evaluated_on: EvaluatedOn = "test"
    """split that the scores are of; absent: the test images"""
    winners: tuple[SweepWinner, ...] = ()
    """of runs with a validation split; absent: they have none"""

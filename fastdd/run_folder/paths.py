"""Names of the files of a run folder. No other module of fastdd knows one.

    recipe.yaml                      the resolved recipe, which makes the same run again
    manifest.json                    versions, machine, fingerprints, seconds of each stage
    data.json                        index of the splits: classes, counts, fingerprints
    teacher.safetensors              the teacher; squeeze.json says how it learned
    snapshots.safetensors            embeddings of real images after the epochs in teacher.snapshots;
                                     squeeze.html shows them
    scores.safetensors               how hard each real image was while squeeze trained the teacher
    bank/                            statistics of the real images (bank/store.py)
    experts/                         weights of networks after each epoch (experts/store.py), where an arm
                                     follows them
    recover/ARM/                     unit_00000.json of each unit whose images are written
    images/ARM/CLASS/00000.png       the distilled images, or .jpg with save.format=jpeg
    labels/ARM.safetensors           soft labels of the images; with labels.per=view the folder labels/ARM/
    students/ARM/seed_0.json         test accuracy of one student; full/ for the whole training set
    students/ARM/seed_0.safetensors  weights of the student, with its card, where student.keep asks for them
    students/ARM/state_0.safetensors state of a student whose training was cut short
    students/NAME/ARM/               the same of the further students of that name
    students-test/ARM/seed_0.json    accuracy on the test images of the winner and the control of a sweep that
                                     ranks on validation images
    embeddings.safetensors           teacher embeddings of the real and distilled images
    features.safetensors             the same in the features that metrics.features names
    metrics.json                     all results, the same bytes on every machine run
    report.html                      the page; in the folder of a sweep over ipc, that of all its runs
    figures/                         figures for papers that `fastdd plot` writes
    sweep.json, sweep.svg            results and figure of a sweep that has this folder
    log.jsonl                        what happened when; the trackers that the recipe's log names have
                                     log.csv, tensorboard/, wandb/ or mlflow.json beside it

A teacher of the committee has its own files: teacher-NAME.safetensors, squeeze-NAME.json,
snapshots-NAME.safetensors, bank-NAME/. With labels.per=view, further students whose labels are stored have
their own in labels/NAME/ARM/.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

ImageFormat = Literal["png", "jpeg"]
SUFFIX: dict[ImageFormat, str] = {"png": ".png", "jpeg": ".jpg"}


def image_file(arm_folder: Path, class_name: str, number: int, image_format: ImageFormat) -> Path:
    """One image file in the folder of an arm's images; torchvision's ImageFolder loads this layout."""
    return arm_folder / class_name / f"{number:05d}{SUFFIX[image_format]}"


def _with_name(stem: str, name: str) -> str:
    return f"{stem}-{name}" if name else stem


class InFolder:
    """A file or folder with a fixed name in a run folder."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, run: RunFolder, owner: type[RunFolder]) -> Path:
        return run.path / self.name


@dataclass(frozen=True)
class RunFolder:
    """The files of one run.

    Every method and property gives a path and looks at no disk, but for those that say so. ``arm`` is a key
    of the recipe's ``arms``, or ``random`` for the control. ``teacher`` is a name of the recipe's
    ``committee``, or empty for the teacher of the run. ``student`` is a name of the recipe's ``students``, or
    empty for its section ``student``.
    """

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    recipe = InFolder("recipe.yaml")
    """The resolved recipe; a folder that has it holds a run."""
    manifest = InFolder("manifest.json")
    """Versions, machine, fingerprints and seconds (results.Manifest)."""
    data = InFolder("data.json")
    """The index of the splits (a list of results.DataSplit)."""
    metrics = InFolder("metrics.json")
    """All results (results.Metrics)."""
    embeddings = InFolder("embeddings.safetensors")
    """Teacher embeddings: ``real``, ``real_labels`` and one tensor an arm."""
    features = InFolder("features.safetensors")
    """Features of another network than the teacher: ``real`` and one tensor an arm."""
    report = InFolder("report.html")
    """The page."""
    log = InFolder("log.jsonl")
    """One line of JSON an event."""
    figures = InFolder("figures")
    """Folder of figures for papers."""
    csv = InFolder("log.csv")
    """The values of all events, one a row."""
    tensorboard = InFolder("tensorboard")
    """Folder of TensorBoard's files."""
    wandb = InFolder("wandb")
    """Folder in which W&B keeps its files; ``run.json`` in it names W&B's run, which is continued."""
    mlflow = InFolder("mlflow.json")
    """Names MLflow's run, which is continued."""
    sweep = InFolder("sweep.json")
    """Results of a sweep whose folder this is (results.SweepResults)."""
    sweep_figure = InFolder("sweep.svg")
    """Figure of a sweep whose folder this is."""

    # -- teachers and banks --------------------------------------------------------------------

    def teacher(self, teacher: str = "") -> Path:
        """Weights of a teacher, with its card."""
        return self.path / f"{_with_name('teacher', teacher)}.safetensors"

    def rejected_teacher(self, teacher: str = "") -> Path:
        """Weights of a teacher that was trained but is less accurate than ``minimum_accuracy``."""
        return self.path / f"{_with_name('teacher', teacher)}-rejected.safetensors"

    def training(self, teacher: str = "") -> Path:
        """How a teacher learned, epoch by epoch (results.TeacherTraining)."""
        return self.path / f"{_with_name('squeeze', teacher)}.json"

    def snapshots(self, teacher: str = "") -> Path:
        """Embeddings of real images after some epochs of a teacher's training (teachers/snapshots.py)."""
        return self.path / f"{_with_name('snapshots', teacher)}.safetensors"

    scores = InFolder("scores.safetensors")
    """How hard each training image was for the run's own teacher (teachers/image_scores.py)."""
    squeeze_page = InFolder("squeeze.html")
    """The page of the snapshots of all teachers."""

    def training_checkpoint(self, teacher: str = "") -> Path:
        """State of a teacher's training at the end of its last epoch; deleted when the teacher is written."""
        return self.path / f"{_with_name('squeeze', teacher)}.safetensors"

    def bank(self, teacher: str = "") -> Path:
        """Folder of the statistics of the real images through a teacher."""
        return self.path / _with_name("bank", teacher)

    experts = InFolder("experts")
    """Folder of the experts whose trajectories are matched."""

    def finished_experts(self) -> list[Path]:
        """The experts that are finished on the disk, in order."""
        return sorted(self.experts.glob("[0-9]*[0-9].safetensors"))

    # -- an arm --------------------------------------------------------------------------------

    all_images = InFolder("images")
    """Folder of the images of all arms."""

    def images(self, arm: str) -> Path:
        """Folder of an arm's images, with a folder for each class."""
        return self.all_images / arm

    def image(self, arm: str, class_name: str, number: int, image_format: ImageFormat) -> Path:
        """One image file of an arm.

        Args:
            number: its slot; with a formation, which puts several slots into one file, the slot divided by
                how many.
            image_format: the arm's ``save.format``.
        """
        return image_file(self.images(arm), class_name, number, image_format)

    def arms(self) -> list[str]:
        """The arms of which there are images on the disk, sorted."""
        if not self.all_images.is_dir():
            return []
        return sorted(entry.name for entry in self.all_images.iterdir() if entry.is_dir())

    def recovery(self, arm: str) -> Path:
        """Folder of what an arm's recovery has noted."""
        return self.path / "recover" / arm

    def plan(self, arm: str) -> Path:
        """Images a unit of an arm, where ``recover.unit_images=auto`` chose them (results.UnitPlan)."""
        return self.recovery(arm) / "plan.json"

    def initial(self, arm: str) -> Path:
        """Folder of the choices of an arm's initial images, where those are ranked or cut out."""
        return self.recovery(arm) / "initial"

    def unit(self, arm: str, index: int) -> Path:
        """Losses of one unit (results.UnitLog); written last, so it marks the unit as finished."""
        return self.recovery(arm) / f"unit_{index:05d}.json"

    def unit_state(self, arm: str, index: int) -> Path:
        """Checkpoint inside a unit, for a method that optimizes all images in one; deleted when the unit is
        finished."""
        return self.recovery(arm) / f"state_{index:05d}.safetensors"

    def unit_states(self, arm: str) -> list[Path]:
        """The checkpoints of an arm's units that are under way, or were cut short."""
        return sorted(self.recovery(arm).glob("state_*.safetensors"))

    def units(self, arm: str) -> list[Path]:
        """The units of an arm that are finished on the disk, in order."""
        return sorted(self.recovery(arm).glob("unit_*.json"))

    def labels(self, arm: str, per: Literal["image", "view"], student: str = "") -> Path:
        """Soft labels of an arm: a file of one row an image, or a folder of the views that a student sees."""
        folder = self.path / "labels"
        return folder / student / arm if per == "view" else folder / f"{arm}.safetensors"

    def students(self, arm: str, student: str = "") -> list[Path]:
        """The students of an arm, or of the reference ``full``, that are finished on the disk."""
        return sorted((self.path / "students" / student / arm).glob("seed_*.json"))

    def student(self, arm: str, seed: int, student: str = "") -> Path:
        """Test accuracy of one student of an arm or of ``full`` (results.StudentResult)."""
        return self.path / "students" / student / arm / f"seed_{seed}.json"

    def student_weights(self, arm: str, seed: int, student: str = "") -> Path:
        """Weights of a student with its card, where they are kept (runs/kept_students.py)."""
        return self.student(arm, seed, student).with_suffix(".safetensors")

    @staticmethod
    def student_state(result: Path) -> Path:
        """Checkpoint inside a student's training, given the file of its accuracy; deleted when that is
        written."""
        return result.with_name(f"{result.stem.replace('seed', 'state')}.safetensors")

    def student_states(self, arm: str, student: str = "") -> list[Path]:
        """The checkpoints of an arm's students that are under way, or were cut short."""
        return sorted((self.path / "students" / student / arm).glob("state_*.safetensors"))

    def tested_student(self, arm: str, seed: int) -> Path:
        """Accuracy on the test images of a student of a sweep's winner or of its control
        (results.StudentResult)."""
        return self.path / "students-test" / arm / f"seed_{seed}.json"

    # -- all of it -----------------------------------------------------------------------------

    def is_run(self) -> bool:
        """Whether the folder on the disk holds a run."""
        return self.recipe.is_file() and self.manifest.is_file()

    def made(self, committee: Iterable[str] = ()) -> list[Path]:
        """All files and folders that a run makes; the recipe is last, because it marks the folder as a
        run's."""
        teachers = ["", *committee]
        kinds = (
            self.training_checkpoint,
            self.training,
            self.snapshots,
            self.rejected_teacher,
            self.teacher,
            self.bank,
        )
        found = [kind(teacher) for teacher in teachers for kind in kinds]
        found += [
            self.path / name
            for name in ("experts", "recover", "images", "labels", "students", "students-test")
        ]
        found += [
            self.squeeze_page,
            self.scores,
            self.data,
            self.embeddings,
            self.metrics,
            self.report,
            self.sweep,
            self.sweep_figure,
            self.figures,
            self.csv,
            self.tensorboard,
            self.wandb,
            self.mlflow,
        ]
        return [*found, self.manifest, self.log, self.recipe]

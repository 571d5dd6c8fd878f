"""A whole run: the sections put together, and what must agree between them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from .base import All, Config, Count, LayerKind, Positive, Precision
from .controls import CONTROL, FULL
from .data import Data, Teacher
from .labels import Labels
from .method import Method
from .student import Student
from .sweep import Sweep


class Bank(Config):
    """How the statistics of the real images are gathered and stored; which ones, the arms' terms decide."""

    batch: Count = 250
    """images a forward pass"""
    precision: Precision = "fp32"
    """of the forward pass; statistics are always float32"""
    compile: bool = False
    layers: tuple[LayerKind, ...] = ()
    """kinds of layers to be kept beside those that the terms ask for"""
    form: Literal["full", "packed", "lowrank"] = "packed"
    """of covariances: D x D, its lower triangle, or the leading eigenpairs and the diagonal of the rest"""
    rank: Count = 64
    """eigenpairs that lowrank keeps"""
    dtype: Literal["fp32", "bf16"] = "fp32"
    """of covariances on disk"""
    class_bn: Literal["none", "true", "running"] = "none"
    """class-wise BatchNorm statistics. true: over all pixels of all images; running: as LPLD gathered them, a running
    average over mini-batches that hold few images of a class, which lacks the variance between images"""
    class_bn_group: Count = 1
    """running: images of a class in a mini-batch"""
    patch: Count | None = None
    """also keep, class by class, the statistics of single images of all convolution and BatchNorm inputs, of channels
    and of patches of this side in pixels, for terms.conv; null: as the arms' terms need"""
    embeddings: Annotated[int, Field(ge=0)] | All = "all"
    """real embeddings a class that are kept, a seeded choice; the diversity metrics need all"""
    shard_mb: Positive = 8
    """size of a file; classes larger than that have one each"""


class Recover(Config):
    """How the work is cut and computed; it does not change what is computed beyond rounding."""

    unit_images: Count | Literal["auto"] = 100
    """images optimized together; a unit holds as many whole batches as fit, at least one. auto: by free memory"""
    precision: Precision = "fp32"
    compile: bool | Literal["auto"] = "auto"
    """one compiled graph for all units of a shape; auto: on a CPU, for an arm with work enough to repay the compiler"""
    log_every: Count = 20


class Metrics(Config):
    k: Count = 5
    """neighbours for coverage"""
    full_set: bool | Literal["auto"] = "auto"
    """also students of the whole real training set, for as many steps; auto: where its images fit into memory"""


class Recipe(Config):
    name: str
    description: str = ""
    ipc: Count = 10
    """images a class"""
    seed: Annotated[int, Field(ge=0)] = 0
    device: str = "auto"
    """auto: cuda where there is one, else cpu"""
    data: Data = Data()
    teacher: Teacher = Teacher()
    committee: dict[str, Teacher] = Field(default_factory=dict)
    """further teachers by name, for methods that use several (method.ensemble, method.offset)"""
    arms: dict[str, Method]
    """what is compared; the control `random` (random real images) is always run beside them"""
    bank: Bank = Bank()
    recover: Recover = Recover()
    labels: Labels = Labels()
    student: Student = Student()
    metrics: Metrics = Metrics()
    sweep: Sweep = Sweep()
    """which of the arms lie on a grid, and where"""

    @model_validator(mode="after")
    def _fits_together(self) -> Recipe:
        if CONTROL in self.arms:
            raise ValueError(
                "arms.random is the built-in control of random real images; name the arm otherwise"
            )
        if FULL in self.arms:
            raise ValueError(
                "arms.full is the built-in control of the whole training set; name the arm otherwise"
            )
        if reserved := {"real", "real_labels"} & self.arms.keys():
            raise ValueError(
                f"arms.{min(reserved)} is the name of the real images' embeddings; name the arm otherwise"
            )
        if bad := [
            name
            for name in self.arms
            if not name.replace("-", "").replace("+", "").replace("_", "").isalnum()
        ]:
            raise ValueError(f"arms: {bad[0]!r} becomes a folder name; use letters, digits, '+', '-' and '_'")
        ranked = [
            name
            for name, arm in self.arms.items()
            if arm.init in ("confident", "medium", "kmeans", "herding")
        ]
        if ranked and self.bank.embeddings != "all":
            raise ValueError(
                f"arms.{ranked[0]}.init {self.arms[ranked[0]].init} ranks all real images by their embeddings; "
                f"set bank.embeddings to all, got {self.bank.embeddings}"
            )
        if missing := self.sweep.points.keys() - self.arms.keys():
            raise ValueError(f"sweep.points.{min(missing)} is of no arm; arms: {', '.join(self.arms)}")
        for name, member in self.committee.items():
            if not name.replace("_", "").isalnum():
                raise ValueError(f"committee: {name!r} becomes a file name; use letters, digits and '_'")
            if (member.mean, member.std) != (self.teacher.mean, self.teacher.std):
                raise ValueError(
                    f"committee.{name} has another mean or std than teacher; all see the same images, so use one"
                )
        for name in ("mean", "std"):
            if len(getattr(self.teacher, name)) != self.data.channels:
                raise ValueError(
                    f"teacher.{name} has {len(getattr(self.teacher, name))} values, expected one for each of the "
                    f"{self.data.channels} channels of data.channels"
                )
        return self


def as_plain(recipe: Recipe) -> dict[str, Any]:
    """The recipe as JSON-like values, the form in which it is saved and compared; no ``sweep`` where none was."""
    return recipe.model_dump(mode="json", exclude=None if recipe.sweep.points else {"sweep"})

"""A run described by typed, validated values.

The types below are the whole vocabulary: every recipe, override and Python call is checked against
them, and an unknown key is an error that names the nearest known one. Lengths are in pixels, times in
optimisation steps, and rates and weights are plain numbers.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Probability = Annotated[float, Field(ge=0, le=1)]
BelowOne = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1)]
All = Literal["all"]
Precision = Literal["auto", "fp32", "bf16"]
"""auto: bf16 autocast where the hardware multiplies it (CUDA; x86 with AMX or AVX512-BF16), else fp32"""
Layers = Literal["stages", "blocks", "bn_inputs"]


class Config(BaseModel):
    """Frozen, and closed: a key that is not declared is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)


class Data(Config):
    root: str = "digits"
    """folder in ImageFolder layout, .tar, .tar.gz or .tar.xz of one, or the built-in `digits`"""
    size: Count | None = None
    """side of the square images in pixels; null keeps them as stored"""
    channels: Literal[1, 3] = 3


class Teacher(Config):
    """The network whose statistics are matched, and how squeeze trains it where no weights are given."""

    network: str = "resnet20"
    weights: str | None = None
    """safetensors file; null: the squeeze stage trains the network"""
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[Positive, ...] = (0.229, 0.224, 0.225)
    epochs: Count = 30
    batch: Count = 128
    lr: Positive = 0.1
    momentum: Probability = 0.9
    weight_decay: NotNegative = 5e-4
    label_smoothing: Probability = 0.0
    pad: Annotated[int, Field(ge=0)] = 4
    """random crop after padding by this many pixels"""
    flip: Probability = 0.5
    precision: Precision = "fp32"
    """of squeeze; statistics and embeddings are taken in fp32"""
    minimum_accuracy: Probability = 0.0
    """squeeze fails below this test accuracy: a bad teacher spoils everything after it"""


class CrossEntropy(Config):
    weight: NotNegative = 1.0


class BatchNorm(Config):
    """SRe2L: sum over layers of ||var - running_var||_2 + ||mean - running_mean||_2 of BatchNorm inputs."""

    weight: NotNegative = 0.01
    first: NotNegative = 10.0
    """factor on the first layer"""


class Gaussian(Config):
    """DEDA eq. 6: sum over layers of ||mean - class mean||^2 + gamma ||Cov - class Cov||_F^2."""

    weight: NotNegative = 1.0
    gamma: NotNegative = 50.0
    layers: Layers = "blocks"
    cov_norm: Literal["none", "dim"] = "none"
    """dim: the squared covariance difference is divided by the layer's width"""
    cov_unbiased: bool = False


class Covariance(Config):
    """DEDA eq. 7 and 8 on the last features: variance hinge and squared off-diagonal covariance."""

    lambda_var: NotNegative = 0.2
    lambda_cov: NotNegative = 4.0
    eps: NotNegative = 1e-4
    """inside the root of the hinge; 0 is the paper's formula to the letter"""
    unbiased: bool = False


class DiRe(Config):
    """DiRe: r_cos (CD + CDM) + r_euc EDM, summed over the classes of the batch."""

    r_cos: NotNegative = 0.1
    r_euc: NotNegative = 0.001
    reading: Literal["paper", "code", "clean"] = "clean"
    real_per_class: Count | All = "all"
    """real embeddings a class, a seeded choice"""


class Terms(Config):
    """The objective; a term that is null is absent."""

    ce: CrossEntropy | None = CrossEntropy()
    bn: BatchNorm | None = None
    gaussian: Gaussian | None = None
    covariance: Covariance | None = None
    dire: DiRe | None = None


class Batch(Config):
    """What the method itself calls a batch: global statistics span it, class statistics its classes."""

    classes: Count | All = "all"
    slots: Count | All = 1


class Augment(Config):
    """One draw a batch and step, shared by its images, as in all released code."""

    scale: tuple[Probability, Probability] | None = None
    """area range of a random resized crop; null: no crop"""
    flip: Probability = 0.0
    roll: tuple[int, int] = (0, 4)
    """shift range in pixels, both ends included, drawn for each axis"""

    @model_validator(mode="after")
    def _ranges_rise(self) -> Augment:
        if self.scale is not None and not 0 < self.scale[0] <= self.scale[1]:
            raise ValueError(f"scale must be [low, high] with 0 < low <= high, got {list(self.scale)}")
        if self.roll[0] > self.roll[1]:
            raise ValueError(f"roll must be [low, high] with low <= high, got {list(self.roll)}")
        return self


class Method(Config):
    """What recover optimises: initial images, batches, augmentation, terms and schedule."""

    title: str = ""
    init: Literal["noise", "real"] = "noise"
    batch: Batch = Batch()
    augment: Augment = Augment()
    terms: Terms = Terms()
    steps: Annotated[int, Field(ge=0)] = 1000
    lr: Positive = 0.25
    betas: tuple[BelowOne, BelowOne] = (0.5, 0.9)

    @model_validator(mode="after")
    def _something_to_optimise(self) -> Method:
        if self.steps and all(term is None for _, term in self.terms):
            raise ValueError("terms are all null: give at least one, or set steps to 0 to keep the initial images")
        return self


class Recover(Config):
    """How the work is cut and computed; it does not change what is computed beyond rounding."""

    unit_images: Count = 100
    """images optimised together; a unit holds as many whole batches as fit, at least one"""
    precision: Precision = "fp32"
    compile: bool = False
    log_every: Count = 20


class Student(Config):
    """The protocol by which every image set is judged: knowledge distillation from the teacher."""

    network: str = "resnet20"
    steps: Count = 400
    batch: Count = 100
    lr: Positive = 1e-3
    weight_decay: NotNegative = 0.01
    temperature: Positive = 30.0
    labels: Literal["online", "stored"] = "online"
    """online: the teacher labels each mixed, augmented batch; stored: the one soft label of each image"""
    teacher_mode: Literal["eval", "train"] = "eval"
    """train: the released CIFAR scripts' teacher, which normalises by batch statistics"""
    mix: Literal["none", "mixup", "cutmix"] = "mixup"
    mix_alpha: Positive = 0.8
    pad: Annotated[int, Field(ge=0)] = 4
    flip: Probability = 0.5
    seeds: Count = 3
    evaluations: Count = 4
    """test passes a student, evenly spaced, the last at the end; `best` is the best of them"""
    precision: Precision = "fp32"


class Metrics(Config):
    k: Count = 5
    """neighbours for coverage"""


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
    arms: dict[str, Method]
    """what is compared; the control `random` (random real images) is always run beside them"""
    recover: Recover = Recover()
    student: Student = Student()
    metrics: Metrics = Metrics()

    @model_validator(mode="after")
    def _fits_together(self) -> Recipe:
        if "random" in self.arms:
            raise ValueError("arms.random is the built-in control of random real images; name the arm otherwise")
        if reserved := {"real", "real_labels"} & self.arms.keys():
            raise ValueError(f"arms.{min(reserved)} is the name of the real images' embeddings; name the arm otherwise")
        if bad := [name for name in self.arms if not name.replace("-", "").replace("+", "").replace("_", "").isalnum()]:
            raise ValueError(f"arms: {bad[0]!r} becomes a folder name; use letters, digits, '+', '-' and '_'")
        for name in ("mean", "std"):
            if len(getattr(self.teacher, name)) != self.data.channels:
                raise ValueError(
                    f"teacher.{name} has {len(getattr(self.teacher, name))} values, expected one for each of the "
                    f"{self.data.channels} channels of data.channels"
                )
        return self


def as_plain(recipe: Recipe) -> dict[str, Any]:
    """The recipe as JSON-like values, the form in which it is saved and compared."""
    return recipe.model_dump(mode="json")

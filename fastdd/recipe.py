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
    resize: Count | None = None
    """shorter side in pixels before the centre of `size` is cut out, such as 256 for 224; null: as large as `size`"""
    channels: Literal[1, 3] = 3
    backend: Literal["auto", "dali", "torchvision"] = "auto"
    """who reads the stream for the bank; the pixels agree to 1/255"""
    on_error: Literal["fail", "skip"] = "fail"
    """an image that cannot be read. fail: the run stops and names it; skip: it is left out, counted and listed"""
    fingerprint: Literal["names", "contents"] = "names"
    """of names and sizes, or of every byte (which reads everything once more)"""


class Teacher(Config):
    """The network whose statistics are matched, and how squeeze trains it where no weights are given."""

    network: str = "resnet20"
    weights: str | None = None
    """safetensors file, used as it is; null: the squeeze stage trains the network"""
    init: str | None = None
    """safetensors file of the weights that training starts with; null: random ones"""
    new_head: bool = False
    """start the last layer anew where `init` knows other classes, which is an error otherwise"""
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[Positive, ...] = (0.229, 0.224, 0.225)
    epochs: Count = 30
    batch: Count = 128
    lr: Positive = 0.1
    """of SGD, at its highest"""
    schedule: Literal["onecycle", "cosine"] = "onecycle"
    """onecycle: from lr / 25 up and down to lr / 250000; cosine: up on a straight line, and down to 0"""
    warmup: BelowOne = 0.2
    """part of all steps in which the learning rate rises"""
    momentum: BelowOne = 0.9
    nesterov: bool = True
    weight_decay: NotNegative = 5e-4
    decay_norms: bool = False
    """also let BatchNorm parameters and biases decay"""
    label_smoothing: Probability = 0.0
    ema: BelowOne = 0.0
    """decay of a moving average of the weights, which is then the teacher; 0: the last weights are"""
    scale: tuple[Probability, Probability] | None = None
    """area range of a random resized crop, such as [0.08, 1] for large images; null: a shift by `pad`"""
    pad: Annotated[int, Field(ge=0)] = 4
    """random crop after padding by this many pixels"""
    flip: Probability = 0.5
    precision: Precision = "fp32"
    """of squeeze; statistics and embeddings are taken in fp32"""
    minimum_accuracy: Probability = 0.0
    """squeeze fails below this test accuracy: a bad teacher spoils everything after it"""

    @model_validator(mode="after")
    def _one_start(self) -> Teacher:
        if self.weights is not None and self.init is not None:
            raise ValueError("weights are used as they are and init is trained on: give one of the two")
        if self.scale is not None and not 0 < self.scale[0] <= self.scale[1]:
            raise ValueError(f"scale must be [low, high] with 0 < low <= high, got {list(self.scale)}")
        return self


class CrossEntropy(Config):
    weight: NotNegative = 1.0


class BatchNorm(Config):
    """SRe2L: sum over layers of ||var - running_var||_2 + ||mean - running_mean||_2 of BatchNorm inputs."""

    weight: NotNegative = 0.01
    first: NotNegative = 10.0
    """factor on the first layer"""
    variance: NotNegative = 1.0
    """factor on the norm of the variances (DWA: 11)"""
    target: Literal["global", "class"] = "global"
    """class: statistics of the slots of a class against those of its real images (LPLD)"""


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


class Convolution(Config):
    """G-VBSM: sum of ||var - s_var||_2 + ||mean - s_mean||_2 over the inputs of all BatchNorm2d and Conv2d layers and
    the latter's patches; s is a running average over the steps, with the gradient of the present one."""

    weight: NotNegative = 0.01
    first: NotNegative = 10.0
    """factor on the first layer, which is the first convolution: its input is the images"""
    patch: Count = 4
    """side of the patches in pixels; 16 for images of 224"""
    drop: BelowOne = 0.4
    """probability that a convolution is left out of a step"""
    momentum: BelowOne = 0.8
    """of the running average; 0: the statistics of the step alone"""
    start: Literal["zero", "first"] = "zero"
    """of the running average: from 0, as released, or from its first value"""
    real_batch: Count | All = 64
    """images of the mini-batches of which the real variances are an average; all: one variance over all images"""
    category: Probability = 0.0
    """part of the loss that is against the mean statistics of single images of the batch's classes (EDC: 0.5)"""
    swap: bool = False
    """true: as EDC released, mean and variance of the category's patches change places"""


class Spectrum(Config):
    """G-VBSM's diversity of a class: KL(stop[softmax(l / tau)] || softmax(l)), l eigenvalues of its images' X Xt."""

    weight: NotNegative = 1.0
    tau: Positive = 4.0


class Terms(Config):
    """The objective; a term that is null is absent."""

    ce: CrossEntropy | None = CrossEntropy()
    bn: BatchNorm | None = None
    gaussian: Gaussian | None = None
    covariance: Covariance | None = None
    dire: DiRe | None = None
    conv: Convolution | None = None
    nuc: Spectrum | None = None

    @model_validator(mode="after")
    def _batch_norms_once(self) -> Terms:
        if self.bn is not None and self.conv is not None:
            raise ValueError("conv matches the BatchNorm layers too: set bn to null, or conv")
        return self


class Batch(Config):
    """What the method itself calls a batch: global statistics span it, class statistics its classes."""

    classes: Count | All = "all"
    slots: Count | All = 1


class Augment(Config):
    """Random crop, flip and roll at every step."""

    per_image: bool = False
    """false: one draw a batch and step, shared by its images, as in all released code"""
    scale: tuple[Probability, Probability] | None = None
    """area range of a random resized crop; null: no crop"""
    curriculum: Literal["none", "step", "linear", "cosine"] = "none"
    """CDA: the low end of scale starts at the high end and falls to its value, at once or on a line or half cosine"""
    milestone: Positive = 1.0
    """part of the steps after which the curriculum has ended"""
    flip: Probability = 0.0
    pad: Annotated[int, Field(ge=0)] = 0
    """random crop of the image's own size after padding by this many pixels of the mean colour"""
    roll: tuple[int, int] = (0, 4)
    """shift range in pixels, both ends included, drawn for each axis"""

    @model_validator(mode="after")
    def _ranges_rise(self) -> Augment:
        if self.scale is not None and not 0 < self.scale[0] <= self.scale[1]:
            raise ValueError(f"scale must be [low, high] with 0 < low <= high, got {list(self.scale)}")
        if self.curriculum != "none" and self.scale is None:
            raise ValueError("curriculum is of the crop's scale, but scale is null; give scale as [low, high]")
        if self.pad and self.scale is not None:
            raise ValueError(f"pad and scale are two kinds of crop, got pad {self.pad} and scale {list(self.scale)}")
        if self.roll[0] > self.roll[1]:
            raise ValueError(f"roll must be [low, high] with low <= high, got {list(self.roll)}")
        return self


class Perturb(Config):
    """DWA: before the first step of a batch the teacher's weights climb the cross-entropy of that batch."""

    steps: Count = 12
    rho: Positive = 0.015
    """largest distance from the teacher's weights, in all"""
    restore: bool = True
    """false: as released, a teacher carries the climbs of the earlier batches of its slots on"""


class Mosaic(Config):
    """RDED: initial images put together from the crops of real ones that the teacher is surest of."""

    factor: Count | Literal["auto"] = "auto"
    """crops along a side; auto: 2 for images of more than 64 pixels, else 1"""
    images: Count = 300
    """real images a class that are looked at, a seeded choice"""
    crops: Count = 5
    """of each, of which the best one remains"""
    area: tuple[Probability, Probability] = (0.08, 1.0)
    """of a crop, as a part of its image: the range"""

    @model_validator(mode="after")
    def _range_rises(self) -> Mosaic:
        if not 0 < self.area[0] <= self.area[1]:
            raise ValueError(f"area must be [low, high] with 0 < low <= high, got {list(self.area)}")
        return self


class EarlyLate(Config):
    """DELT: the slots of a class join the optimisation in groups, one a round, and stay to the end."""

    rounds: Count = 8


class Offset(Config):
    """INFER: what is optimised is an offset, shared by the real images of a batch, one for each slot and teacher."""

    before_last_step: bool = True
    """as released, images are kept with the offset that the last step started from"""


class Save(Config):
    """How recovered images are written."""

    format: Literal["png", "jpeg"] = "png"
    """png is lossless; jpeg is what most released code writes"""
    quality: Annotated[int, Field(ge=1, le=100)] = 75
    """of jpeg"""
    rounding: Literal["round", "truncate"] = "round"
    """to whole grey levels; truncate is what released code does"""


class Method(Config):
    """What recover optimises: initial images, batches, augmentation, terms and schedule."""

    title: str = ""
    init: Literal["noise", "real", "confident", "medium", "kmeans", "herding", "rded"] = "noise"
    """real: a random choice; then four choices by rank of the teacher's probability or place among the embeddings"""
    rded: Mosaic = Mosaic()
    batch: Batch = Batch()
    augment: Augment = Augment()
    terms: Terms = Terms()
    perturb: Perturb | None = None
    voters: Count | Literal["first", "all", "round_robin"] = "first"
    """of several teachers, those that speak at a step: the run's own, all, one in turn, or so many drawn anew"""
    early_late: EarlyLate | None = None
    offset: Offset | None = None
    save: Save = Save()
    steps: Annotated[int, Field(ge=0)] = 1000
    lr: Positive = 0.25
    betas: tuple[BelowOne, BelowOne] = (0.5, 0.9)

    @model_validator(mode="after")
    def _something_to_optimise(self) -> Method:
        if self.steps and all(term is None for _, term in self.terms):
            raise ValueError("terms are all null: give at least one, or set steps to 0 to keep the initial images")
        if self.perturb is not None and self.augment.pad:
            raise ValueError(
                f"perturb climbs on images without padding, got augment.pad {self.augment.pad}; set it to 0"
            )
        return self

    @model_validator(mode="after")
    def _one_schedule(self) -> Method:
        if self.early_late is not None and self.batch.slots != "all":
            raise ValueError(
                f"early_late cuts the slots of a class into groups, so a batch holds all of them: set batch.slots to "
                f"all, got {self.batch.slots}"
            )
        if self.offset is not None and self.init == "noise":
            raise ValueError("offset is added to real images, but init is noise; set init to real or a selection")
        if self.offset is not None and (self.early_late is not None or self.perturb is not None):
            raise ValueError("offset goes neither with early_late nor with perturb; set those to null")
        return self


class Bank(Config):
    """How the statistics of the real images are gathered and stored; which ones, the arms' terms decide."""

    batch: Count = 250
    """images a forward pass"""
    precision: Precision = "fp32"
    """of the forward pass; statistics are always float32"""
    compile: bool = False
    layers: tuple[Layers, ...] = ()
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
    shard_mb: Positive = 32
    """size of a file; classes larger than that have one each"""


CONTROL = "random"
RANDOM_REAL = Method(title="random real images", init="real", batch=Batch(slots="all"), terms=Terms(ce=None), steps=0)
"""the control that is run beside every arm"""


class Recover(Config):
    """How the work is cut and computed; it does not change what is computed beyond rounding."""

    unit_images: Count | Literal["auto"] = 100
    """images optimised together; a unit holds as many whole batches as fit, at least one. auto: by free memory"""
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
    committee: dict[str, Teacher] = {}
    """further teachers by name, for methods that listen to several (method.voters, method.offset)"""
    arms: dict[str, Method]
    """what is compared; the control `random` (random real images) is always run beside them"""
    bank: Bank = Bank()
    recover: Recover = Recover()
    student: Student = Student()
    metrics: Metrics = Metrics()

    @model_validator(mode="after")
    def _fits_together(self) -> Recipe:
        if CONTROL in self.arms:
            raise ValueError("arms.random is the built-in control of random real images; name the arm otherwise")
        if reserved := {"real", "real_labels"} & self.arms.keys():
            raise ValueError(f"arms.{min(reserved)} is the name of the real images' embeddings; name the arm otherwise")
        if bad := [name for name in self.arms if not name.replace("-", "").replace("+", "").replace("_", "").isalnum()]:
            raise ValueError(f"arms: {bad[0]!r} becomes a folder name; use letters, digits, '+', '-' and '_'")
        sides = {arm.terms.conv.patch for arm in self.arms.values() if arm.terms.conv}
        if self.bank.patch is not None:
            sides.add(self.bank.patch)
        if len(sides) > 1:
            raise ValueError(
                f"a run has one bank, with patches of one side, got {sorted(sides)}; give all terms.conv.patch "
                "and bank.patch one value"
            )
        ranked = [name for name, arm in self.arms.items() if arm.init in ("confident", "medium", "kmeans", "herding")]
        if ranked and self.bank.embeddings != "all":
            raise ValueError(
                f"arms.{ranked[0]}.init {self.arms[ranked[0]].init} ranks all real images by their embeddings; "
                f"set bank.embeddings to all, got {self.bank.embeddings}"
            )
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
    """The recipe as JSON-like values, the form in which it is saved and compared."""
    return recipe.model_dump(mode="json")

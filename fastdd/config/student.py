"""The protocol under which every image set is evaluated: how a student is trained, and when it is tested.

The defaults are the house protocol. ``protocol`` names a preset (protocols/), whose values are laid beneath
the ones that a recipe or a command gives.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, cast

from pydantic import (
    BeforeValidator,
    Field,
    JsonValue,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from ..errors import InputError, suggestion
from .base import (
    BelowOne,
    Border,
    Config,
    Count,
    NotNegative,
    Positive,
    Precision,
    Probability,
    SiameseOperation,
)
from .yaml_text import shown

HOUSE_STEPS = 400

Operations = Annotated[tuple[SiameseOperation, ...], Field(min_length=1)]
Share = Annotated[float, Field(gt=0, le=1)]
LabelStage = Annotated[
    tuple[Literal["soft", "hard"], Share],
    BeforeValidator(lambda pair: tuple(pair) if isinstance(pair, list) else pair),
]
"""kind of labels of a stage, and the stage's share of the training"""
LabelStages = Annotated[tuple[LabelStage, ...], Field(min_length=1)]


class TemperatureSchedule(Config):
    """How the temperature of the teacher's labels falls from `temperature` on (LPQLD's dynamic knowledge
    reuse). e counts the steps or epochs, whichever `lr_interval` says, from 1 to E."""

    kind: Literal["step", "cosine"] = "step"
    """step: max(low, temperature factor^floor(e / (every E))); cosine: low + (temperature - low)
    (1 + cos(pi e / E)) / 2"""
    low: Positive = 2.0
    """lowest temperature; at most `temperature`"""
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.7
    """step: the factor of each fall"""
    every: Share = 0.1
    """step: share of the training between two falls"""


PLAIN: dict[str, JsonValue] = {
    "randaugment": None,
    "shuffle_patches": 1,
    "scale": None,
    "pad": 0,
    "flip": 0.0,
    "siamese": None,
    "siamese_always": None,
    "mix": "none",
}
"""the values of a protocol without any augmentation"""


class RandAugment(Config):
    """Random operations on every image before it is cropped (Cubuk et al., 2020)."""

    table: Literal["timm", "torchvision"] = "torchvision"
    """library whose operations and ranges are used"""
    operations: Count = 2
    """number of operations an image"""
    magnitude: Annotated[float, Field(ge=0, le=10)] = 3.0
    """strength, 0 to 10: timm's m is m here, torchvision's n of 30 is n / 3"""
    deviation: NotNegative = 0.0
    """standard deviation of the magnitude, which is normally distributed and cut at 0 and 10"""
    probability: Probability = 1.0
    """probability that a chosen operation is done; timm has 0.5"""


class Student(Config):
    """How students are trained: knowledge distillation from the teacher, under one protocol for all sets."""

    protocol: str = "house"
    """name of the preset that gives every value below that is not set"""
    network: str = "resnet20"
    """the student's network, untrained. convnet: the ConvNet whose depth fits the images, convnet3 for 32
    pixels, convnet4 for 64, convnet5 for 128"""

    # length and batches
    steps: Count | None = HOUSE_STEPS
    """number of optimization steps; null: `epochs` gives the length"""
    epochs: Count | None = None
    """number of passes over the set, ceil(N / batch) steps each, instead of `steps`; null: `steps` gives the
    length"""
    per_epoch: Literal["seen", "stored"] = "seen"
    """what a pass over a set with a formation goes through. seen: all images that students see; stored: the
    stored images, of each of which a student sees one image, drawn anew in each pass (CIM)"""
    batch: Count | Literal["by_ipc", "by_images"] = 100
    """images a step; by_ipc: RDED's and DELT's rule for 1, 10, 20, 30, 40, 50 and 100 images a class;
    by_images: CIM's and GIFT's, 10, 50, 100 or 200 for up to 10, 500, 20,000 or more images a pass"""
    accumulate: Count = 1
    """number of parts in which a batch goes forward and backward, each with its own BatchNorm statistics"""

    # optimizer
    optimizer: Literal["adamw", "sgd"] = "adamw"
    """optimizer of the student's weights"""
    lr: Positive | Literal["by_network", "learned"] = 1e-3
    """peak learning rate; by_network: RDED's table of students; learned: the one that the method learned with
    the images (MTT), and 0.01 for sets without one, such as the control"""
    momentum: BelowOne = 0.9
    """momentum of SGD"""
    weight_decay: NotNegative = 0.01
    """weight decay of the optimizer"""
    decay_norms: bool = True
    """true: all parameters decay; false: only tensors called weight, of two and more dimensions, do"""
    schedule: Literal["cosine", "cos2", "multistep", "constant"] = "cosine"
    """cos2 (EDC): a stretched cosine for 5/6 of the training, then a sharp drop and a line down to 0"""
    stretch: Annotated[float, Field(ge=1)] = 1.0
    """cosine period / training length; 1: anneal to 0; 2: stop half-way, at lr / 2 (RDED)"""
    milestones: tuple[Probability, ...] = ()
    """multistep: parts of the training after which the learning rate is multiplied by `milestone_factor`"""
    milestone_factor: Probability = 0.1
    """factor of the learning rate at each milestone"""
    restart_momentum: bool = False
    """true: the optimizer forgets its momentum at each milestone, as released code that makes a new one"""
    warmup: BelowOne = 0.0
    """part of the training in which the learning rate rises linearly to lr; the schedule has the rest"""
    warmup_start: Probability = 0.01
    """learning rate at the start of the warm-up, as a part of lr"""
    lr_interval: Literal["step", "epoch"] = "step"
    """how often the learning rate changes"""
    ema: BelowOne = 0.0
    """decay of a moving average of the weights, which is tested; 0: the weights themselves are"""

    # labels and loss
    labels: Literal["online", "stored", "hard"] = "online"
    """online: the teacher labels each mixed, augmented batch; stored: labels are read (section labels); hard:
    the classes of the images, mixed as the batch is and learned by cross-entropy, without teacher and
    `loss`"""
    teacher_mode: Literal["eval", "train"] = "eval"
    """train: the teacher normalizes by batch statistics, as in the released CIFAR scripts"""
    label_stages: LabelStages | None = None
    """stages with soft or hard labels, and their shares of the steps, such as [[soft, 0.25], [hard, 0.5],
    [soft, 0.25]] (HALD); optimizer and schedule run through. A hard stage needs neither soft labels nor the
    teacher. null: `labels` holds from start to end"""
    loss: Literal["kl", "mse", "cosine"] = "kl"
    """kl: divergence of softmax(logits / temperature), mean over images; mse: mean over images and classes of
    the squared difference of logits; cosine (GIFT): 1 - the mean cosine of the logits with the teacher's, to
    which `hard_part` may be added"""
    temperature: Positive = 30.0
    """T of kl"""
    temperature_schedule: TemperatureSchedule | None = None
    """kl: how T falls in the course of the training; null: it stays"""
    student_temperature: Positive | None = None
    """kl: T of the student's softmax alone, such as 1 (LPQLD); null: the teacher's"""
    t_squared: bool = False
    """true: the divergence is multiplied by T^2"""
    hard_weight: NotNegative = 0.0
    """weight of an added cross-entropy with the classes of the images, whatever was mixed in"""
    hard_part: NotNegative = 0.0
    """cosine: length of the smoothed classes, mixed as the images are, that are added to the teacher's logits
    of length 1; GIFT has 0.1"""
    hard_smoothing: BelowOne = 0.0
    """share that hard labels give away: in a cross-entropy to all classes alike, in `hard_part` to all but
    the own one"""

    # augmentation
    augment: Literal["protocol", "none"] = "protocol"
    """protocol: as the values below say; none: neither crop, flip and mixing nor RandAugment, shuffled
    patches and Siamese augmentation, whatever the protocol says (DD-Ranking's augmentation-robust score)"""
    whole: BelowOne = 0.0
    """probability that a student sees a whole stored image of tiles in place of one of them (CIM); sets
    without such a formation have no tiles"""
    randaugment: RandAugment | None = None
    """null: no RandAugment"""
    shuffle_patches: Count = 1
    """number of strips, across and down, into which images are cut and which are shuffled; 1: none (RDED: its
    mosaics' patches)"""
    scale: tuple[Probability, Probability] | None = None
    """area range of a random resized crop, such as [0.08, 1]; null: a shift by `pad`"""
    pad: Border = 4
    """largest shift in pixels: a random crop after padding by this many pixels"""
    pad_color: Literal["mean", "black"] = "mean"
    """color of the padding"""
    flip: Probability = 0.5
    """probability of a horizontal flip"""
    siamese: Operations | None = None
    """operations of Siamese augmentation (DSA), of normalized images: each batch has one of them, and each
    image parameters of its own; null: none"""
    siamese_always: Operations | None = None
    """operations that every batch has, beside the one of `siamese` (IDC); null: none"""
    mix: Literal["none", "mixup", "cutmix"] = "mixup"
    """how two images of a batch are mixed. mixup: as a weighted mean; cutmix: a box of one lies in another"""
    mix_alpha: Positive = 0.8
    """the ratio of a mixture is Beta(alpha, alpha)"""
    mix_probability: Probability = 1.0
    """probability that a batch is mixed"""

    # tests and arithmetic
    seeds: Count = 3
    """number of students a set"""
    evaluations: Count = 4
    """number of test passes a student, evenly spaced, the last at the end; `best` is the best of them"""
    test_every: Count | None = None
    """epochs between test passes, with one at the end; null: `evaluations` says how many there are"""
    best_from: BelowOne = 0.0
    """part of the training before which there are no test passes"""
    reported: Literal["last", "best"] = "last"
    """accuracy that the protocol's authors report. last: after the last step; best: the best of the test
    passes, which is then told beside the last, although it looks at the test set"""
    precision: Precision = "fp32"
    """arithmetic of training: fp32, tf32, bf16, or auto: bf16 where the hardware multiplies it, else fp32"""
    compile: bool = False
    """true: teacher, student and loss are one compiled step"""

    # what stays of a student. Both change no result: the saved recipe and the protocol are without them
    keep: bool = Field(default=False, exclude=True)
    """true: keep the weights of each trained student beside its accuracy; students that were trained without
    it are trained again for their weights"""
    checkpoint_every: Positive = Field(default=60.0, exclude=True)
    """seconds between two checkpoints inside a student's training"""

    @model_validator(mode="before")
    @classmethod
    def _one_length(cls, values: object) -> object:
        """Take `epochs` in place of the house's steps where `steps` is not given."""
        if isinstance(values, dict) and values.get("epochs") is not None and "steps" not in values:
            return {"steps": None, **values}
        return values

    @model_serializer(mode="wrap")
    def _without_augment_where_it_says_nothing(
        self, handler: SerializerFunctionWrapHandler
    ) -> dict[str, object]:
        values: dict[str, object] = handler(self)
        return {name: value for name, value in values.items() if name != "augment" or value != "protocol"}

    @model_validator(mode="after")
    def _augments_or_not(self) -> Student:
        if self.augment == "none":
            for key, value in PLAIN.items():
                if (given := getattr(self, key)) != value:
                    raise ValueError(f"augment none leaves out {key}, got {given}; leave one of the two out")
        return self

    @model_validator(mode="after")
    def _fits_together(self) -> Student:
        if (self.steps is None) == (self.epochs is None):
            given = "neither" if self.steps is None else f"steps {self.steps} and epochs {self.epochs}"
            raise ValueError(f"give one of steps and epochs, and set the other to null; got {given}")
        if self.scale is not None and not 0 < self.scale[0] <= self.scale[1]:
            raise ValueError(f"scale must be [low, high] with 0 < low <= high, got {list(self.scale)}")
        if (self.schedule == "multistep") != bool(self.milestones):
            raise ValueError(
                f"schedule multistep needs milestones, and no other schedule has them; got {self.schedule} "
                f"and {list(self.milestones)}"
            )
        if list(self.milestones) != sorted(self.milestones):
            raise ValueError(f"milestones must rise, got {list(self.milestones)}")
        if self.whole and self.labels == "stored":
            raise ValueError(
                f"whole shows stored images of several tiles, which have no stored labels, got "
                f"{self.whole:g}; set labels to online or hard, or whole to 0"
            )
        return self

    @model_validator(mode="after")
    def _loss_fits_labels(self) -> Student:
        if self.label_stages is not None:
            total = sum(share for _, share in self.label_stages)
            if self.labels == "hard":
                raise ValueError(
                    "label_stages takes soft labels in turn with hard ones, but labels is hard; set labels "
                    "to online or stored, or label_stages to null"
                )
            if abs(total - 1) > 1e-6:
                raise ValueError(
                    f"shares of label_stages must add up to 1, got {total:g}; change one of them"
                )
        if self.loss != "kl":
            for key in ("temperature_schedule", "student_temperature"):
                if getattr(self, key) is not None:
                    raise ValueError(
                        f"{key} needs loss kl, since loss {self.loss} has no temperature; set {key} to null"
                    )
        if self.student_temperature is not None and self.t_squared:
            raise ValueError(
                "t_squared multiplies by the square of one temperature, but student_temperature is another; "
                "leave one of them out"
            )
        schedule = self.temperature_schedule
        if schedule is not None and schedule.low > self.temperature:
            raise ValueError(
                f"temperature_schedule falls from temperature to low, got {self.temperature:g} and "
                f"{schedule.low:g}; set low to at most temperature"
            )
        if self.hard_part and self.loss != "cosine":
            raise ValueError(
                f"hard_part needs loss cosine, got loss {self.loss}; set hard_part to 0, or use hard_weight, "
                "which adds a cross-entropy"
            )
        return self

    @property
    def mixes_classes(self) -> bool:
        """Whether the loss of soft labels also takes the classes of the images, mixed as the images are."""
        return self.loss == "cosine" and self.hard_part > 0 and self.labels != "hard"


# -- regimes: where the labels that students learn come from, all else being equal ----------------------
#
#     hard      the classes of the images; neither soft labels nor the teacher
#     fixed     stored soft labels, one of each image or a pool of views (section ``labels``); no teacher
#               while students are trained
#     online    the teacher labels every view
#
# These are the three of "Hard Truths". The students of a kind take the same steps on the same batches in all
# of them; mixed images have mixed classes where labels are hard.

Regime = Literal["hard", "fixed", "online"]
REGIMES: dict[Regime, dict[str, JsonValue]] = {
    "hard": {"labels": "hard", "hard_weight": 0.0, "label_stages": None},
    "fixed": {"labels": "stored"},
    "online": {"labels": "online"},
}
"""regime -> the values of a section ``student`` that make it"""
OF_LABELS = {str(values["labels"]): name for name, values in REGIMES.items()}
"""``student.labels`` -> the regime"""


def regime_of(student: Student) -> Regime:
    """The regime of students of a kind."""
    return OF_LABELS[student.labels]


def read_regimes(given: object, origin: str) -> list[Regime]:
    """The regimes that a text such as ``hard,online``, or a list of names, asks for.

    Args:
        origin: who asks, for messages.

    Raises:
        InputError: none is named, one is unknown or named twice.
    """
    names: Sequence[object] = given if isinstance(given, list | tuple) else []
    if isinstance(given, str):
        names = [name.strip() for name in given.strip("[] ").split(",") if name.strip()]
    for name in names:
        if name not in REGIMES:
            raise InputError(
                f"{origin}: unknown regime {name!r}{suggestion(str(name), REGIMES)}; known: "
                f"{', '.join(REGIMES)}"
            )
    if not names or len(set(names)) < len(names):
        raise InputError(
            f"{origin}: expected one or more of {', '.join(REGIMES)}, each once, such as hard,fixed,online; "
            f"got {shown(given)}"
        )
    return cast("list[Regime]", list(names))


def in_regime(student: Student, regime: Regime) -> Student:
    """Students of the same kind in a regime; those that are in it stay as they are."""
    if regime_of(student) == regime:
        return student
    return Student.model_validate({**dict(student), **REGIMES[regime]})

"""The protocol by which every image set is judged: how a student is trained and when it is tested.

The defaults are the house protocol. ``protocol`` names a preset (protocols/), whose values are laid beneath
the ones that a recipe or a command gives.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from .base import BelowOne, Config, Count, NotNegative, Positive, Precision, Probability

HOUSE_STEPS = 400


class RandAugment(Config):
    """Random operations on every image before it is cropped (Cubuk et al., 2020)."""

    table: Literal["timm", "torchvision"] = "torchvision"
    """whose operations and ranges; magnitude m of timm is m here, n of torchvision's 30 is n / 3"""
    operations: Count = 2
    magnitude: Annotated[float, Field(ge=0, le=10)] = 3.0
    """0 to 10"""
    deviation: NotNegative = 0.0
    """of the magnitude, which is drawn from a normal distribution and cut at 0 and 10"""
    probability: Probability = 1.0
    """that an operation is done; timm has 0.5"""


class Student(Config):
    """Knowledge distillation from the teacher, under one protocol for all sets."""

    protocol: str = "house"
    """name of the preset that the values below come from, where nothing else is said"""
    network: str = "resnet20"

    # how long
    steps: Annotated[int, Field(ge=1)] | None = HOUSE_STEPS
    epochs: Annotated[int, Field(ge=1)] | None = None
    """instead of steps: passes over the set, ceil(N / batch) steps each"""
    batch: Count | Literal["by_ipc"] = 100
    """by_ipc: RDED's rule for 1, 10 and 50 images a class"""
    accumulate: Count = 1
    """parts in which a batch goes forward and backward, each with BatchNorm statistics of its own"""

    # optimizer
    optimizer: Literal["adamw", "sgd"] = "adamw"
    lr: Positive | Literal["by_network"] = 1e-3
    """by_network: RDED's table of students"""
    momentum: BelowOne = 0.9
    """of SGD"""
    weight_decay: NotNegative = 0.01
    split_decay: bool = False
    """only tensors called weight, of two and more dimensions, decay"""
    schedule: Literal["cosine", "cos2", "multistep", "constant"] = "cosine"
    """cos2: EDC's, a stretched cosine up to 5/6 of the training, then a line from a sixth of its value down to 0"""
    stretch: Annotated[float, Field(ge=1)] = 1.0
    """the cosine would reach 0 after this many times the training; 2: half a cosine, which ends at one half"""
    milestones: tuple[Probability, ...] = ()
    """multistep: parts of the training after which the learning rate is multiplied by milestone_factor"""
    milestone_factor: Probability = 0.1
    warmup: BelowOne = 0.0
    """part of the training in which the learning rate rises on a line to lr; the schedule has the rest"""
    warmup_start: Probability = 0.01
    """where it rises from, as a part of lr"""
    rate_per: Literal["step", "epoch"] = "step"
    """how often the learning rate changes"""
    ema: BelowOne = 0.0
    """decay of a moving average of the weights, which is then tested; 0: the last weights are"""

    # labels and loss
    labels: Literal["online", "stored", "hard"] = "online"
    """online: the teacher labels each mixed, augmented batch; stored: the one soft label of each image; hard: the
    classes of the images, mixed as the batch is and learned by cross-entropy, with no teacher, whatever `loss` says"""
    teacher_mode: Literal["eval", "train"] = "eval"
    """train: the released CIFAR scripts' teacher, which normalizes by batch statistics"""
    loss: Literal["kl", "mse"] = "kl"
    """kl: of softmax(logits / temperature), mean over images; mse: of the logits, mean over images and classes"""
    temperature: Positive = 30.0
    t_squared: bool = False
    """multiply the divergence by temperature^2"""
    hard_weight: NotNegative = 0.0
    """of the cross-entropy with the classes of the images, whatever was mixed in, beside the loss"""

    # augmentation
    randaugment: RandAugment | None = None
    shuffle_patches: Count = 1
    """cut images into so many strips, across and down, and shuffle those: RDED's for its mosaics"""
    scale: tuple[Probability, Probability] | None = None
    """area range of a random resized crop, such as [0.08, 1]; null: a shift by `pad`"""
    pad: Annotated[int, Field(ge=0)] = 4
    """random crop after padding by this many pixels"""
    padding: Literal["mean", "black"] = "mean"
    """color of the padding"""
    flip: Probability = 0.5
    mix: Literal["none", "mixup", "cutmix"] = "mixup"
    mix_alpha: Positive = 0.8

    # judgement and arithmetic
    seeds: Count = 3
    evaluations: Count = 4
    """test passes a student, evenly spaced, the last at the end; `best` is the best of them"""
    test_every: Count | None = None
    """instead of evaluations: epochs between test passes; one at the end there is always"""
    best_from: BelowOne = 0.0
    """part of the training before which a test pass does not count for `best`, and is left out"""
    reports: Literal["last", "best"] = "last"
    """which of the two the protocol's authors report; both are always told"""
    precision: Precision = "fp32"
    compile: bool = False
    """teacher, student and loss as one compiled step"""

    @model_validator(mode="before")
    @classmethod
    def _one_length(cls, values: Any) -> Any:
        """Epochs where nothing is said of steps are instead of the house's steps."""
        if isinstance(values, dict) and values.get("epochs") is not None and "steps" not in values:
            return {"steps": None, **values}
        return values

    @model_validator(mode="after")
    def _fits_together(self) -> Student:
        if (self.steps is None) == (self.epochs is None):
            given = "neither" if self.steps is None else f"steps {self.steps} and epochs {self.epochs}"
            raise ValueError(f"give one of steps and epochs, and set the other to null; got {given}")
        if self.scale is not None and not 0 < self.scale[0] <= self.scale[1]:
            raise ValueError(f"scale must be [low, high] with 0 < low <= high, got {list(self.scale)}")
        if (self.schedule == "multistep") != bool(self.milestones):
            raise ValueError(
                f"milestones are of schedule multistep, and it needs some; got {self.schedule} and "
                f"{list(self.milestones)}"
            )
        if list(self.milestones) != sorted(self.milestones):
            raise ValueError(f"milestones must rise, got {list(self.milestones)}")
        return self

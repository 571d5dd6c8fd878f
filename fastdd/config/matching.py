"""What the matching family compares: features, gradients, weights or kernels of synthetic and real images.

A method has at most one of them, beside or in place of the terms of a teacher.
"""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import Field, model_validator

from .base import All, Config, Count, NotNegative, Positive, SiameseOperation

SIAMESE_OPERATIONS: tuple[SiameseOperation, ...] = get_args(SiameseOperation)


class Siamese(Config):
    """Differentiable Siamese augmentation (DSA): real and synthetic images of a class share each draw."""

    operations: tuple[SiameseOperation, ...] = SIAMESE_OPERATIONS
    """operations, of which each draw takes one; empty: no augmentation"""
    together: bool = False
    """true: each draw takes all of the operations (IDC)"""


class Inner(Config):
    """Training of a step's network between the steps on the images (DC, DSA, CAFE, IDC)."""

    on: Literal["synthetic", "real"] = "synthetic"
    """images that the network learns from"""
    epochs: Count = 50
    """passes over those images between two steps"""
    images: Count | None = None
    """real images a pass, drawn anew for each; null: all of them"""
    lr: Positive = 0.01
    """learning rate of SGD"""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """momentum of SGD"""
    weight_decay: NotNegative = 0.0
    """weight decay of SGD, on all parameters"""
    batch: Count = 256
    """images a training step"""
    mix: Literal["none", "cutmix"] = "none"
    """cutmix: with probability 1/2 a batch is mixed, its ratio drawn from Beta(1, 1)"""


class Networks(Config):
    """The networks through which images are compared: new ones at random, with their initial weights."""

    network: str = "convnet"
    """name of the network. convnet: the ConvNet whose depth fits the images, convnet3 for 32 pixels, convnet4
    for 64, convnet5 for 128"""
    steps: Count = 1
    """steps on the images that one network serves. Without ``inner`` its draws of real images and of
    augmentation, and so its targets, serve as long"""
    real: Count = 256
    """real images of each class in a step, drawn without replacement; all of a class that has fewer"""
    inner: Inner | None = None
    """null: a network keeps its initial weights"""


class FeatureMatch(Config):
    """Means of features of each class (DM, DataDAM, CAFE)."""

    layers: Literal["last", "relu", "all"] = "last"
    """last: the input of the last linear layer; relu: the outputs of all ReLUs but the last; all: those of
    all ReLUs, then the input of the last linear layer"""
    map: Literal["mean", "attention"] = "mean"
    """what is averaged over the images of a class. mean: the features; attention: DataDAM's attention maps"""
    power: Positive = 1.0
    """attention: exponent of the activations"""
    weights: tuple[NotNegative, ...] | Literal["cafe"] | None = None
    """one weight a layer, from shallow to deep. cafe: 2 for the last layer, 1 for the one before it and 0.1
    for each before those; null: 1 for each"""
    weight: Positive = 1.0
    """factor of the distances of the layers"""
    output: NotNegative = 0.0
    """factor of the distance of mean features at the input of the last linear layer, beside the layers"""
    discriminate: NotNegative = 0.0
    """factor of the cross-entropy of real features against the mean synthetic feature of each class (CAFE),
    which couples all classes"""


class GradientMatch(Config):
    """Gradients of a network's weights, from synthetic and from real images of each class (DC, DSA, IDC)."""

    metric: Literal["rows", "mse", "cosine"] = "rows"
    """distance of two gradients. rows: 1 - cosine of each output channel (DC); mse: sum of squares (IDC);
    cosine: 1 - cosine of all numbers as one vector"""
    matrices_only: bool = False
    """true: of weight tensors with two and more dimensions alone, as ``rows`` always is"""
    convolutions_only: bool = False
    """true: of the weights of convolutions alone (IDC)"""
    synthetic: Count | None = None
    """synthetic images of each class in a step, drawn without replacement; null: all of them. IDC: 128"""


class TrajectoryMatch(Config):
    """Weights after a few steps on the synthetic images, against an expert's some epochs later (MTT)."""

    steps: Count = 30
    """steps N of the student on synthetic images"""
    epochs: Count = 2
    """epochs M of the expert after which its weights are the target"""
    latest_start: Count = 20
    """the student starts from the expert's weights after 0 to latest_start - 1 epochs"""
    batch: Count | All = "all"
    """synthetic images a step of the student"""
    lr: Positive = 0.01
    """learning rate of the student at the first step; it is learned with the images"""
    lr_lr: NotNegative = 1e-5
    """learning rate of that learning rate; its momentum is 0.5"""
    through_weights: bool = True
    """true: the gradient takes account of how an image moves all later weights (MTT); false: of its own step
    alone (TESLA)"""
    factor: Positive = 2.0
    """factor of the gradient of the squared distance; released code of TESLA has 1"""
    together: Count = 1
    """trajectories a step, whose mean loss is minimized"""


class KernelMatch(Config):
    """Error of kernel ridge regression from the synthetic images onto real ones (KIP).

    It has no network and no augmentation, so ``networks`` and ``siamese`` change nothing.
    """

    depth: Count = 1
    """hidden layers of the infinitely wide ReLU network whose tangent kernel is used"""
    ridge: Positive = 1e-6
    """ridge, as a part of the mean diagonal of the kernel"""
    target: Count = 5000
    """real images a step, as many of each class; all of a class that has fewer"""


class Added(Config):
    """How terms of the recipe's ``terms`` join the matching."""

    through: Literal["teacher", "network"] = "teacher"
    """network whose features the terms see. teacher: the run's own, with its bank; network: that of the step,
    with the real images of the step (terms.dire alone)"""
    share: Positive | None = 0.1
    """the norm of the terms' gradient as a part of the matching's, for each batch, measured at the first step
    and kept; null: the terms have the weights that they say"""


class Match(Config):
    """What is matched, and by which networks; one of features, gradients, trajectory and kernel."""

    features: FeatureMatch | None = None
    gradients: GradientMatch | None = None
    trajectory: TrajectoryMatch | None = None
    kernel: KernelMatch | None = None
    networks: Networks = Networks()
    siamese: Siamese = Siamese()
    added: Added = Added()

    @model_validator(mode="after")
    def _one_of_them(self) -> Match:
        names = ("features", "gradients", "trajectory", "kernel")
        given = [name for name in names if getattr(self, name) is not None]
        if len(given) != 1:
            got = " and ".join(given) or "none"
            raise ValueError(f"match needs one of {', '.join(names)}, got {got}; set the others to null")
        if self.trajectory is not None and self.networks.inner is not None:
            raise ValueError(
                "match.trajectory takes its networks from experts; set match.networks.inner to null"
            )
        if self.features is not None and self.features.weights is not None and self.features.layers == "last":
            raise ValueError(
                "match.features.weights weighs several layers, but layers is last; set it to null"
            )
        if self.trajectory is not None and self.added.through == "network":
            raise ValueError(
                "match.trajectory shows its network no real images, so terms go through the teacher; set "
                "match.added.through to teacher"
            )
        if self.kernel is not None and self.added.through == "network":
            raise ValueError(
                "match.kernel has no network, so terms go through the teacher; set match.added.through to "
                "teacher"
            )
        return self

    @property
    def coupled(self) -> bool:
        """Whether an image's gradient depends on images of other classes, which makes the set one unit."""
        learns = self.networks.inner is not None and self.networks.inner.on == "synthetic"
        discriminates = self.features is not None and self.features.discriminate > 0
        return learns or discriminates or self.trajectory is not None or self.kernel is not None

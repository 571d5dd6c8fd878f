"""MTT (Cazenavette et al., CVPR 2022): the synthetic images take a student where an expert went.

    L = || w_N - w*_{t+M} ||^2 / || w*_t - w*_{t+M} ||^2
    w_0 = w*_t,    w_{i+1} = w_i - lr grad CE(w_i; b_i)

w*_t are the weights of an expert, a network trained on the real images, after t epochs (section
``experts``); b_i are batches of augmented synthetic images. The student's learning rate is learned with the
images and becomes that of the students (protocol mtt). The gradient is that of the whole trajectory, by the
adjoint in constant memory.

TABLE is the released code's, without its whitening (ZCA), which 8-bit images could not hold: the rows for
CIFAR-10 at 1 and 10 images a class and CIFAR-100 at 1 and 50 were found with it. Experts are trained for as
many epochs as trajectories reach, where the code trains 50; the rest is never read. Data sets without a row
take CIFAR-10's, and other numbers of images a class the nearest row. The learning rate of the images acts on
normalized ones (dm.py says what that changes).
"""

from __future__ import annotations

from typing import NamedTuple

from pydantic import JsonValue

from ..config.sources import code, ours, paper
from .declaration import Declaration, Patch, register_method


class Row(NamedTuple):
    """Settings for a data set and a number of images a class.

    Attributes:
        steps: N, steps of the student.
        epochs: M, epochs of the expert from its start to the target.
        latest_start: T+, the number of epochs after which the student may start.
        lr_img: learning rate of the images.
        lr_lr: learning rate of the student's learning rate.
        lr: the student's learning rate at the first step.
        batch: synthetic images a step of the student.
    """

    steps: int
    epochs: int
    latest_start: int
    lr_img: float
    lr_lr: float
    lr: float
    batch: int | str = "all"


TABLE = {
    "cifar10": {
        1: Row(50, 2, 2, 100.0, 1e-7, 0.01),
        10: Row(30, 2, 20, 100.0, 1e-5, 0.001),
        50: Row(30, 2, 40, 1000.0, 1e-5, 0.001),
    },
    "cifar100": {
        1: Row(20, 3, 20, 1000.0, 1e-5, 0.01),
        10: Row(20, 2, 20, 1000.0, 1e-5, 0.01),
        50: Row(80, 2, 40, 1000.0, 1e-5, 0.01, 125),
    },
    "tiny": {
        1: Row(10, 2, 10, 1e4, 1e-4, 0.01),
        10: Row(20, 2, 40, 1e4, 1e-4, 0.01, 200),
        50: Row(20, 2, 40, 1e4, 1e-4, 0.01, 300),
    },
}
MATCH = {
    "trajectory": {"through_weights": paper(True), "factor": paper(2.0)},
    "networks": {"network": paper("convnet")},
    "siamese": {"operations": code(["color", "crop", "cutout", "flip", "scale", "rotate"])},
}
METHOD = {
    "title": paper("MTT"),
    "init": paper("real"),
    "batch": {"classes": paper("all"), "slots": paper("all")},
    "augment": {"roll": code([0, 0])},
    "terms": {"ce": code(None)},
    "match": MATCH,
    "steps": code(5000),
    "optimizer": paper("sgd"),
    "schedule": code("constant"),
    "momentum": code(0.5),
}
SCRIPTS = ("cifar10", "cifar100", "tiny")


def at(dataset: str | None, ipc: int) -> Patch:
    """The row of the data set and the images a class, or the nearest one."""
    rows = TABLE.get(dataset or "", TABLE["cifar10"])
    known = min(rows, key=lambda each: (abs(each - ipc), each))
    return row_patch(rows[known], released=known == ipc)


def row_patch(row: Row, *, released: bool) -> Patch:
    """A row as a method's keys, its source the code where it was released for just these images."""
    source = code if released else ours
    trajectory: dict[str, JsonValue] = {
        "steps": row.steps,
        "epochs": row.epochs,
        "latest_start": row.latest_start,
        "batch": row.batch,
        "lr": row.lr,
        "lr_lr": row.lr_lr,
    }
    values = {key: source(value) for key, value in trajectory.items()}
    return {"match": {"trajectory": values}, "lr": source(row.lr_img)}


register_method("mtt", Declaration(METHOD, SCRIPTS, at=at, protocol=code("mtt")))

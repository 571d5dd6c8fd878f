"""Snapshots, their figure and page: how a teacher embeds the same real images while it is trained.

It shows what DEDA's Figure 1 shows: a map of the embeddings at each snapshot, and cosine distances by epoch,
which are 1 - cosine,

    within    mean over classes of the mean distance of two images of the class
    center    mean over classes of the mean distance of an image from the mean embedding of its class
    between   mean over pairs of classes of the mean distance of an image of one from an image of the other
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..config import Recipe
from ..config.naming import teacher_section
from ..errors import InputError, refusals_explained
from ..run_folder import DataSplit, RunFolder, TeacherTraining, read, read_manifest, read_recipe, read_text
from ..runtime.files import write_text
from ..teachers import Snapshots, read_snapshots
from .axis import linear_axis
from .embedding_map import HEIGHT, WIDTH, class_labels, cloud, fit, project
from .figures import LABEL_GAP, PANEL, apart
from .reproduce import reproduction
from .templates import environment

COMPACT = 0.1
"""cosine distance from the center of the class below which DEDA finds the images of a well-trained teacher"""
SHOWN_MAPS = 8
"""most maps of a teacher, each of which takes some seconds; of more snapshots they are spread evenly"""


@dataclass(frozen=True)
class Distances:
    """Mean cosine distances of a snapshot, 0 to 2; a class of one image counts as 0 within itself."""

    within: float
    center: float
    between: float
    """NaN where there is one class"""


@dataclass(frozen=True)
class SnapshotMap:
    """The map of a snapshot in panel coordinates, see EmbeddingMap.

    Attributes:
        epoch: the epoch after which it was kept.
        accuracy: test accuracy of the teacher then, a fraction.
        within: mean cosine distance of two images of a class.
        clouds: the points of each class, as an SVG path of dots.
        labels: (x, y, class name) of each class whose points leave room for its name.
    """

    epoch: int
    accuracy: float
    within: float
    clouds: list[str]
    labels: list[tuple[float, float, str]]


@dataclass(frozen=True)
class DistanceLine:
    """A distance by epoch.

    Attributes:
        name: within, center or between.
        dots: (x, y) of each snapshot.
    """

    name: str
    path: str
    dots: list[tuple[float, float]]
    label_y: float


@dataclass(frozen=True)
class SnapshotFigure:
    """The snapshots of one teacher.

    Attributes:
        teacher: the recipe's section that describes it, such as ``teacher``.
        images, classes: real images of a snapshot, and classes that they are of.
        method: what made the maps, for the caption.
        count: number of snapshots.
        first, last: the distances of the first and the last snapshot.
        x_ticks, y_ticks: (position, text) of each tick.
        compact_y: height of DEDA's distance; None: it lies above the frame.
    """

    teacher: str
    network: str
    images: int
    classes: int
    method: str
    maps: list[SnapshotMap]
    count: int
    first: Distances
    last: Distances
    last_epoch: int
    lines: list[DistanceLine]
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]
    compact_y: float | None


def snapshot_figures(folder: RunFolder, recipe: Recipe) -> list[SnapshotFigure]:
    """The figure of each teacher of a run whose training kept snapshots; the run's own teacher is first.

    Raises:
        InputError: a file is damaged.
    """
    figures = []
    for name, config in recipe.all_teachers.items():
        if folder.snapshots(name).is_file():
            training = read(folder.training(name), TeacherTraining)
            accuracies = {int(entry["epoch"]): float(entry["accuracy"]) for entry in training.epochs}
            snapshots = read_snapshots(folder.snapshots(name))
            figures.append(snapshot_figure(teacher_section(name), config.network, snapshots, accuracies))
    return figures


def snapshot_figure(
    teacher: str, network: str, snapshots: Snapshots, accuracies: dict[int, float]
) -> SnapshotFigure:
    """The figure of one teacher.

    Args:
        teacher: the recipe's section that describes the teacher.
        snapshots: its snapshots, at least one.
        accuracies: its test accuracy after each epoch, a fraction.
    """
    labels = snapshots.labels.numpy()
    embeddings = {epoch: rows.numpy().astype(np.float64) for epoch, rows in snapshots.embeddings.items()}
    distances = {epoch: cosine_distances(rows, labels) for epoch, rows in embeddings.items()}
    epochs = list(embeddings)
    places = np.linspace(0, len(epochs) - 1, min(SHOWN_MAPS, len(epochs))).round().astype(int)
    maps, methods = [], []
    for epoch in (epochs[place] for place in places):
        method, points = project(_of_length_one(embeddings[epoch]))
        placed = fit(points)
        groups = [placed[labels == c] for c in range(len(snapshots.classes))]
        methods.append(method)
        maps.append(
            SnapshotMap(
                epoch=epoch,
                accuracy=accuracies.get(epoch, float("nan")),
                within=distances[epoch].within,
                clouds=[cloud(group) for group in groups],
                labels=class_labels(groups, snapshots.classes),
            )
        )
    x = linear_axis([0.0, float(epochs[-1])], ticks=4, from_zero=True)
    named = {name: [getattr(distances[epoch], name) for epoch in epochs] for name in _names(distances)}
    y = linear_axis([0.0, *(value for values in named.values() for value in values)], from_zero=True)
    dots = {
        name: [
            (round(PANEL.x(x(epoch)), 1), round(PANEL.y(y(value)), 1))
            for epoch, value in zip(epochs, values, strict=True)
        ]
        for name, values in named.items()
    }
    heights = apart([each[-1][1] for each in dots.values()], LABEL_GAP, low=PANEL.top, high=PANEL.bottom)
    return SnapshotFigure(
        teacher=teacher,
        network=network,
        images=len(labels),
        classes=len(snapshots.classes),
        method=" or ".join(dict.fromkeys(methods)),
        maps=maps,
        count=len(epochs),
        first=distances[epochs[0]],
        last=distances[epochs[-1]],
        last_epoch=epochs[-1],
        lines=[
            DistanceLine(name, "M" + "L".join(f"{a} {b}" for a, b in each), each, round(height, 1))
            for (name, each), height in zip(dots.items(), heights, strict=True)
        ],
        x_ticks=PANEL.x_ticks(x),
        y_ticks=PANEL.y_ticks(y),
        compact_y=round(PANEL.y(y(COMPACT)), 1) if y.high >= COMPACT else None,
    )


def _names(distances: dict[int, Distances]) -> Sequence[str]:
    """The distances that are drawn."""
    several = not any(np.isnan(each.between) for each in distances.values())
    return ("within", "center", "between") if several else ("within", "center")


def cosine_distances(embeddings: np.ndarray, labels: np.ndarray) -> Distances:
    """The mean cosine distances of embeddings.

    Args:
        embeddings: float64 [N, D].
        labels: classes [N], numbered from 0, each with at least one image.
    """
    unit, counts = _of_length_one(embeddings), np.bincount(labels)
    sums = np.stack([unit[labels == c].sum(0) for c in range(len(counts))])
    products = sums @ sums.T
    pairs = counts * (counts - 1)
    own = np.bincount(labels, np.square(unit).sum(1))  # of an image with itself
    cosines = np.divide(products.diagonal() - own, pairs, out=np.ones(len(counts)), where=pairs > 0)
    centers = _of_length_one(np.stack([embeddings[labels == c].mean(0) for c in range(len(counts))]))
    to_center = (sums * centers).sum(1) / counts
    apart_from = (products / np.outer(counts, counts))[~np.eye(len(counts), dtype=bool)]
    return Distances(
        within=float(1 - cosines.mean()),
        center=float(1 - to_center.mean()),
        between=float(1 - apart_from.mean()) if len(apart_from) else float("nan"),
    )


def _of_length_one(rows: np.ndarray) -> np.ndarray:
    """Rows [n, D] divided by their lengths; a row of zeros stays as it is."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: np.ndarray = rows / np.where(lengths > 0, lengths, 1.0)
    return unit


@refusals_explained()
def report_squeeze(out: Path) -> Path:
    """Write the page of the snapshots of a run's teachers into its folder.

    Args:
        out: the run folder, finished up to its teachers.

    Returns:
        The path of the page.

    Raises:
        InputError: no teacher kept snapshots, or a file is missing or damaged.
    """
    folder = RunFolder(Path(out))
    recipe = read_recipe(folder)
    figures = snapshot_figures(folder, recipe)
    if not figures:
        raise InputError(
            f"{out} has no snapshots of a teacher; train one with "
            f"teacher.snapshots=[1,{recipe.teacher.epochs}]"
        )
    again = reproduction(recipe)
    page = (
        environment()
        .get_template("squeeze.html")
        .render(
            recipe=recipe,
            recipe_text=read_text(folder.recipe),
            manifest=read_manifest(folder),
            splits=read(folder.data, list[DataSplit]),
            figures=figures,
            map_size=(WIDTH, HEIGHT),
            geometry=PANEL,
            reproduction=again,
            command=again.command.replace("fastdd run", "fastdd squeeze"),
        )
    )
    write_text(folder.squeeze_page, page)
    return folder.squeeze_page

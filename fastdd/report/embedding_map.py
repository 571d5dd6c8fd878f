"""A two-dimensional map of real and distilled embeddings, the same for all sets.

The map is a t-SNE (van der Maaten and Hinton, 2008) of all sets at once, which starts from their principal
components, with a fixed seed and on one thread: the same run folder gives the same map. Where the points are
too few to have neighbourhoods, the map is their first two principal components. Cost: O(n log n) for n
points, at most about 1000 real ones and ten a class of each set.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .finished_run import FinishedArm, FinishedRun

REAL_POINTS = 1000
ITERATIONS = 500
PERPLEXITY = 30
FEWEST = 60
"""different points that t-SNE needs to have neighbourhoods to keep"""
WIDTH, HEIGHT, MARGIN = 360.0, 300.0, 22.0
LETTERS, LETTER_WIDTH, LABEL_GAP = 14, 6.4, 11.0
"""most letters of a label, the width of one, and the space between two labels"""


@dataclass(frozen=True)
class EmbeddingMap:
    """The map in panel coordinates, 0 to 360 across and 0 to 300 down.

    Attributes:
        method: what made the map, for the caption.
        real_points: number of real points that are drawn.
        clouds: the real points of each shown class, as an SVG path of dots.
        labels: (x, y, class name) of each class whose real points leave room for its name.
        panels: each arm with the (x, y, class) of its points.
    """

    method: str
    real_points: int
    clouds: list[str]
    labels: list[tuple[float, float, str]]
    panels: list[tuple[FinishedArm, list[tuple[float, float, int]]]]


def embedding_map(run: FinishedRun) -> EmbeddingMap:
    """The map of a run's first classes: as many real points of each class, and each arm's first slots.

    The control's images are real training images, so they are drawn at their real points: t-SNE would push
    two copies of one point apart.
    """
    classes = range(len(run.shown_classes))
    labels = run.embeddings["real_labels"]
    slots = run.shown_slots
    control, *distilled = [
        run.embeddings[arm.key][_rows(len(classes), arm.result.seen, slots)] for arm in run.arms
    ]
    twins = _twins(control, np.repeat(classes, slots), run.embeddings["real"], labels)
    chosen = np.union1d(_stratified(labels, len(classes), REAL_POINTS), twins)
    parts = [run.embeddings["real"][chosen], *distilled]
    method, points = project(np.concatenate(parts).astype(np.float64))
    real, *sets = np.split(fit(points), np.cumsum([len(part) for part in parts])[:-1])
    groups = [real[labels[chosen] == c] for c in classes]
    sets = [real[np.searchsorted(chosen, twins)], *sets]
    return EmbeddingMap(
        method,
        len(chosen),
        [cloud(group) for group in groups],
        class_labels(groups, run.shown_classes),
        [
            (arm, [(*_xy(p), i // slots) for i, p in enumerate(s)])
            for arm, s in zip(run.arms, sets, strict=True)
        ],
    )


def _rows(classes: int, seen: int, slots: int) -> np.ndarray:
    """Rows of the first slots of each class, in an array of ``seen`` rows a class."""
    return (seen * np.arange(classes)[:, None] + np.arange(slots)).ravel()


def _twins(control: np.ndarray, classes: np.ndarray, real: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Index of the real row nearest to each control row in its class: the same image, up to rounding."""
    found = []
    for row, c in zip(control.astype(np.float32), classes, strict=True):
        of_class = np.flatnonzero(labels == c)
        found.append(of_class[np.square(real[of_class].astype(np.float32) - row).sum(1).argmin()])
    return np.array(found)


def _stratified(labels: np.ndarray, classes: int, most: int) -> np.ndarray:
    """Indices of a seeded choice of at most ``most`` rows, at most ``most // classes`` of each class."""
    random = np.random.RandomState(0)
    each = max(1, most // classes)
    return np.concatenate([random.permutation(np.flatnonzero(labels == c))[:each] for c in range(classes)])


def cloud(points: np.ndarray) -> str:
    """Points [n, 2] of a panel as an SVG path of dots."""
    return "".join(f"M{x:g} {y:g}h0" for x, y in map(_xy, points))


def project(points: np.ndarray) -> tuple[str, np.ndarray]:
    """Project embeddings [n, D] to two dimensions: (the method in words, points [n, 2])."""
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1), warnings.catch_warnings():  # one thread: the same sums in the same order
        warnings.simplefilter("ignore", RuntimeWarning)  # PCA of equal points divides by their variance, zero
        kept = min(50, *points.shape)
        reduced = PCA(kept, svd_solver="full").fit_transform(points)
        if len(np.unique(reduced.astype(np.float32), axis=0)) < FEWEST or kept < 2:
            return "the first two principal components", np.pad(reduced, ((0, 0), (0, 2)))[:, :2]
        model = TSNE(
            2, perplexity=min(PERPLEXITY, len(points) / 4), max_iter=ITERATIONS, init="pca", random_state=0
        )
        return f"t-SNE, perplexity {model.perplexity:g}", model.fit_transform(reduced.astype(np.float32))


def fit(points: np.ndarray) -> np.ndarray:
    """Points moved, and scaled alike in both directions, so that they fill the panel inside its margin."""
    low, high = points.min(0), points.max(0)
    room = np.array([WIDTH, HEIGHT]) - 2 * MARGIN
    scale = (room / np.maximum(high - low, 1e-12)).min()
    return (points - (low + high) / 2) * scale * [1, -1] + np.array([WIDTH, HEIGHT]) / 2


def class_labels(groups: Sequence[np.ndarray], names: Sequence[str]) -> list[tuple[float, float, str]]:
    """Class names above or below their clouds, cut to 14 letters; a name without room is left out."""
    placed: list[tuple[float, float, str]] = []
    for group, name in zip(groups, names, strict=True):
        if not len(group):
            continue
        text = name if len(name) <= LETTERS else name[: LETTERS - 1] + "…"
        half = len(text) * LETTER_WIDTH / 2
        x = min(max(float(np.median(group[:, 0])), half + 4), WIDTH - half - 4)
        middle = float(np.median(group[:, 1]))
        half_height = 2.5 * float(np.median(abs(group[:, 1] - middle))) + LABEL_GAP  # stragglers do not count
        above, below = middle - half_height, middle + half_height
        for y in (above, below) if above + below < HEIGHT else (below, above):
            apart = all(
                abs(y - v) > LABEL_GAP or abs(x - u) > half + len(t) * LETTER_WIDTH / 2 for u, v, t in placed
            )
            if apart and LABEL_GAP <= y <= HEIGHT - LABEL_GAP:
                placed.append((*_xy((x, y)), text))
                break
    return placed


def _xy(point: Sequence[float] | np.ndarray) -> tuple[float, float]:
    return round(float(point[0]), 1), round(float(point[1]), 1)

"""A joint two-dimensional map of real and distilled embeddings.

t-SNE (van der Maaten and Hinton, 2008) of all sets at once, from a PCA start with a fixed seed on one thread: the same
run folder gives the same map, and every panel has the same axes. Cost O(n log n) for n points; n is held to about 1000
real points and 10 distilled ones a class and set. Too few points for neighbourhoods are shown by their PCA.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .folder import SHOWN_SLOTS, Arm, Run

REAL_POINTS = 1000
ITERATIONS = 500
PERPLEXITY = 30
FEWEST = 60  # below this many points t-SNE has no neighbourhoods to keep
WIDTH, HEIGHT, MARGIN = 360.0, 300.0, 14.0


@dataclass(frozen=True)
class EmbeddingMap:
    """The map in panel coordinates (0 to 360 across, 0 to 300 down).

    Attributes:
        method: what made it, for the caption.
        real_points: how many real points are drawn.
        clouds: for each shown class, an SVG path of dots.
        labels: (x, y, class name) at the median of the class's real points.
        panels: for each arm, its (x, y, class index) markers.
    """

    method: str
    real_points: int
    clouds: list[str]
    labels: list[tuple[float, float, str]]
    panels: list[tuple[Arm, list[tuple[float, float, int]]]]


def embedding_map(run: Run) -> EmbeddingMap:
    """The map of a run's first classes: real points stratified by class, and each arm's first 10 slots a class."""
    classes = range(len(run.shown_classes))
    labels = run.embeddings["real_labels"]
    chosen = _stratified(labels, len(classes), REAL_POINTS)
    slots = min(run.ipc, SHOWN_SLOTS)
    rows = np.array([c * run.ipc + slot for c in classes for slot in range(slots)])
    parts = [run.embeddings["real"][chosen], *(run.embeddings[arm.key][rows] for arm in run.arms)]
    method, points = _project(np.concatenate(parts).astype(np.float64))
    points = _fit(points)
    real, *sets = np.split(points, np.cumsum([len(part) for part in parts])[:-1])
    groups = [real[labels[chosen] == c] for c in classes]
    marked = [[(*_xy(point), i // slots) for i, point in enumerate(points)] for points in sets]
    return EmbeddingMap(
        method,
        len(chosen),
        ["".join(f"M{x:g} {y:g}h0" for x, y in map(_xy, group)) for group in groups],
        [(*_xy(np.median(group, 0)), name) for group, name in zip(groups, run.shown_classes, strict=True) if len(group)],
        list(zip(run.arms, marked, strict=True)),
    )


def _stratified(labels: np.ndarray, classes: int, most: int) -> np.ndarray:
    """Sorted indices of at most ``most`` rows, as many of each class as of any other; a seeded choice."""
    random = np.random.RandomState(0)
    each = max(1, most // classes)
    return np.sort(np.concatenate([random.permutation(np.flatnonzero(labels == c))[:each] for c in range(classes)]))


def _project(points: np.ndarray) -> tuple[str, np.ndarray]:
    """(method, points [n, 2]) of embeddings [n, D]."""
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1), warnings.catch_warnings():  # one thread: the same sums in the same order
        warnings.simplefilter("ignore", RuntimeWarning)  # PCA of equal points divides by their variance, zero
        kept = min(50, *points.shape)
        reduced = PCA(kept, svd_solver="full").fit_transform(points)
        if len(points) < FEWEST or kept < 2:
            return "the first two principal components", np.pad(reduced, ((0, 0), (0, 2)))[:, :2]
        model = TSNE(2, perplexity=min(PERPLEXITY, len(points) / 4), max_iter=ITERATIONS, init="pca", random_state=0)
        return f"t-SNE, perplexity {model.perplexity:g}", model.fit_transform(reduced.astype(np.float32))


def _fit(points: np.ndarray) -> np.ndarray:
    """Points moved and scaled, alike in both directions, to fill the panel inside its margin."""
    low, high = points.min(0), points.max(0)
    room = np.array([WIDTH, HEIGHT]) - 2 * MARGIN
    scale = (room / np.maximum(high - low, 1e-12)).min()
    return (points - (low + high) / 2) * scale * [1, -1] + np.array([WIDTH, HEIGHT]) / 2


def _xy(point: Sequence[float] | np.ndarray) -> tuple[float, float]:
    return round(float(point[0]), 1), round(float(point[1]), 1)

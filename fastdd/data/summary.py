"""The index of a data set as plain values, to be kept beside a run."""

from __future__ import annotations

from typing import Any

from .dataset import Dataset


def summary(dataset: Dataset) -> dict[str, Any]:
    """What a split holds, ready for JSON.

    Returns:
        layout (in words), split, images (their number), classes (names in the order of the labels), counts
        (images of each class), fingerprint (hex) and fingerprint_of ("names" or "contents").
    """
    return {
        "layout": dataset.reader.layout,
        "split": dataset.split,
        "images": len(dataset),
        "classes": list(dataset.classes),
        "counts": list(dataset.counts),
        "fingerprint": dataset.fingerprint,
        "fingerprint_of": dataset.fingerprint_of,
    }

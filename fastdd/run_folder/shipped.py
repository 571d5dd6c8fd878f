"""What students of a set need beside code: bytes of its files, and what a teacher does for one of them.

A set is cheap in images and dear in labels, or the other way round, so sets compare at equal bytes of all
that their students read: images as they are stored, stored soft labels, and the weights of teachers that
label while students train.
"""

from __future__ import annotations

from .record import Record

UNITS = ("B", "kB", "MB", "GB", "TB")


class Shipped(Record):
    """What the students of one kind need of a set."""

    images: int
    """bytes of the image files"""
    labels: int
    """bytes of the stored soft labels; 0: none are read"""
    teacher: int
    """bytes of the weights of the teachers that label while a student trains; 0: none does"""
    forwards: int
    """images that teachers label for one student: while it trains, or beforehand where labels are stored"""

    @property
    def total(self) -> int:
        """Bytes of all that is read."""
        return self.images + self.labels + self.teacher


def bytes_text(count: int) -> str:
    """Bytes with three figures, in decimal units: ``301 kB``, ``1.42 MB``."""
    value, unit = float(count), 0
    while value >= 999.5 and unit < len(UNITS) - 1:
        value, unit = value / 1000, unit + 1
    digits = 0 if unit == 0 or value >= 99.95 else 1 if value >= 9.995 else 2
    return f"{value:.{digits}f} {UNITS[unit]}"

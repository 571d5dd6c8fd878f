"""A paper's numbers as its file writes them, row by row: which of them are of a number of images a class.

accuracy:                    a quantity, see config/published.py
  student:                   students, for accuracy alone
    sre2l: {10: 27.2 ± 0.4, 50: 47.5 ± 0.5}
coverage:
  sre2l: 0.0225              at any number of images a class, where the paper does not say which
"""

from __future__ import annotations

from collections.abc import Mapping

Numbers = Mapping[str, object]
"""what a paper prints for a data set: quantity -> (students ->) arm -> number, or images a class -> number"""


def numbers_at(node: Numbers, ipc: int) -> dict[str, object]:
    """The numbers at some images a class: quantity -> (students ->) arm -> number; what has none is absent.

    Args:
        ipc: images a class.
    """
    found: dict[str, object] = {}
    for key, value in node.items():
        if not isinstance(value, Mapping):
            found[key] = value
        elif _by_images(value):
            if str(ipc) in value:
                found[key] = value[str(ipc)]
        elif inner := numbers_at(value, ipc):
            found[key] = inner
    return found


def arms_with_numbers(node: Numbers) -> set[str]:
    """The arms for which there are numbers."""
    found: set[str] = set()
    for key, value in node.items():
        if not isinstance(value, Mapping) or _by_images(value):
            found.add(key)
        else:
            found |= arms_with_numbers(value)
    return found


def images_a_class(node: Numbers) -> list[int]:
    """The numbers of images a class for which there are numbers, rising."""
    found: set[int] = set()
    for value in node.values():
        if isinstance(value, Mapping):
            found |= set(map(int, value)) if _by_images(value) else set(images_a_class(value))
    return sorted(found)


def _by_images(node: Numbers) -> bool:
    return bool(node) and all(key.isdecimal() for key in node)

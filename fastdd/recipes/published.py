"""A paper's numbers as its file writes them, row by row: which of them are of a number of images a class.

accuracy:                    a quantity, see config/published.py
  student:                   students, for accuracy alone
    sre2l: {10: 27.2 ± 0.4, 50: 47.5 ± 0.5}
coverage:
  sre2l: 0.0225              at any number of images a class, where the paper does not say which
"""

from __future__ import annotations

from collections.abc import Mapping

from ..config import CONTROL
from ..config.published import OWN
from ..config.sources import Tree, plain_values, with_origin
from ..errors import InputError
from .arms import of_arms
from .presets import Document

Numbers = Mapping[str, object]
"""what a paper prints for a data set: quantity -> (students ->) arm -> number, or images a class -> number"""


def numbers_at(node: Numbers, ipc: int) -> dict[str, object]:
    """The numbers at some images a class: quantity -> (students ->) arm -> number; what has none is
    absent."""
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


def with_published(tree: Tree, document: Document, ipc: int) -> tuple[Tree, str]:
    """The recipe's values with those of a paper's numbers that are of its data set and images a class.

    Returns:
        The tree, and what is to be said where the paper has no numbers for them.
    """
    printed = document.values.get("published")
    if not isinstance(printed, dict) or not isinstance(by_set := printed.get("numbers"), dict):
        return tree, ""  # none, or those that a saved recipe holds
    if wrong := [name for name, each in by_set.items() if not isinstance(each, dict)]:
        raise InputError(f"{document.origin}: published.numbers.{wrong[0]} must be a mapping of quantities")
    chosen = numbers_at(by_set.get(str(document.dataset), {}), ipc)
    note = ""
    if not chosen:
        there = "; ".join(
            f"{dataset} at ipc {', '.join(map(str, images_a_class(each))) or 'any'}"
            for dataset, each in by_set.items()
        )
        item, images = printed.get("item"), document.dataset or "images of no known data set"
        note = f"{item} has no numbers for {images} at ipc {ipc}; it has some for {there or 'none'}"
    rest = {key: value for key, value in printed.items() if key != "numbers"}
    return {**tree, "published": with_origin(rest | chosen, document.origin)}, note


def unknown_names(document: Document) -> str:
    """What is to be said of a paper's numbers for arms and students that the recipe lacks.

    Args:
        document: the whole recipe as it is written, with all its arms.

    Returns:
        A sentence; empty: there are none. It is said where the numbers are of one number of images a class,
        as in a saved recipe, which lacks the arms that the run left out.

    Raises:
        InputError: there are some in a paper's file, under ``numbers``.
    """
    printed = document.values.get("published")
    if not isinstance(printed, dict):
        return ""
    by_set = printed.get("numbers")
    whole = isinstance(by_set, dict)
    arms, students, kinds = set[str](), set[str](), document.values.get("students")
    for each in by_set.values() if isinstance(by_set, dict) else (printed,):
        numbers = each if isinstance(each, Mapping) else {}
        arms |= arms_with_numbers(
            {key: value for key, value in numbers.items() if isinstance(value, Mapping)}
        )
        accuracy = numbers.get("accuracy")
        students |= accuracy.keys() if isinstance(accuracy, Mapping) else set()
    known = {OWN} | (kinds.keys() if isinstance(kinds, dict) else set())
    missing = [f"arm {arm!r}" for arm in sorted(arms - document.arms.keys() - {CONTROL})]
    missing += [f"students {name!r}" for name in sorted(students - known) if document.regimes is None]
    if not missing:
        return ""
    text = f"published has numbers for {', '.join(missing)}, which the recipe lacks"
    if whole:
        raise InputError(f"{document.origin}: {text}; name them as in arms and students, or leave them out")
    return f"{text}; they stand in no table"


def _compared(numbers: Mapping[str, object]) -> set[str]:
    """The arms that a paper compares: by their students where it has accuracies, since measures of diversity
    are printed without the images a class."""
    accuracy = numbers.get("accuracy")
    return arms_with_numbers(accuracy if isinstance(accuracy, Mapping) and accuracy else numbers)


def printed_arms(document: Document, published: Tree) -> tuple[Document, str]:
    """The recipe of a paper's table without the arms that the paper compares elsewhere, but not here.

    Args:
        published: the paper's numbers for the recipe's data set and images a class.

    Returns:
        The recipe, and what is to be said of the arms that were left out.
    """
    printed = document.values.get("published")
    by_set = printed.get("numbers") if isinstance(printed, dict) else None
    if not isinstance(by_set, dict):
        return document, ""
    here = _compared({key: plain_values(each) for key, each in published.items()})
    if not here & document.arms.keys():
        return document, ""
    elsewhere = set[str]().union(*map(_compared, by_set.values()))
    left = [arm for arm in document.arms if arm in elsewhere - here]
    if not left:
        return document, ""
    note = (
        f"left out, since the paper has no numbers for them here: {', '.join(left)}; --arms names arms to run"
    )
    kept = [arm for arm in document.arms if arm not in left]
    return of_arms(document, kept), note

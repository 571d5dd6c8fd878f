"""How arms, students, and the keys and values of a grid are written in titles, figures and folder names."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from pydantic import JsonValue

from .labels import Labels, rest_of
from .method import Method
from .student import Student

LABELS = {"online": "soft labels", "stored": "stored soft labels", "hard": "hard labels"}
"""kinds of labels that students learn, in words"""


def teacher_section(name: str) -> str:
    """The recipe's section of a teacher: ``teacher``, or ``committee.NAME``."""
    return f"committee.{name}" if name else "teacher"


def student_section(name: str) -> str:
    """The recipe's section of a kind of students: ``student``, or ``students.NAME``."""
    return f"students.{name}" if name else "student"


def arm_titles(arms: Mapping[str, Method]) -> dict[str, str]:
    """The title of each arm, followed by the arm's name where two share a title."""
    titles = {arm: method.title or arm for arm, method in arms.items()}
    all_titles = list(titles.values())
    return {
        arm: f"{title} ({arm})" if all_titles.count(title) > 1 else title for arm, title in titles.items()
    }


def student_titles(students: Mapping[str, Student]) -> dict[str, str]:
    """Each student's network and kind of labels, such as ``resnet8, soft labels``, by name.

    Args:
        students: protocols by name, the section ``student`` of a recipe under an empty one. Where two have
            the same network and labels, the name follows.
    """
    titles = {name: f"{config.network}, {LABELS[config.labels]}" for name, config in students.items()}
    all_titles = list(titles.values())
    return {
        name: f"{title} ({name or 'student'})" if all_titles.count(title) > 1 else title
        for name, title in titles.items()
    }


def label_words(labels: Labels, student: Student) -> str:
    """How the labels of views are stored and learned, such as ``top 3 without a rest, T falls``."""
    words = {
        "topk": f"top {labels.topk}" + ("" if rest_of(labels, student) == "spread" else " without a rest"),
        "lowrank": f"mean + rank {labels.rank}",
        "pq": f"{labels.codes} codes",
    }
    parts = [words.get(labels.form, labels.form)]
    if labels.keep < 1:
        parts.append(f"{100 * labels.keep:g} % kept")
    if student.temperature_schedule is not None:
        parts.append("T falls")
    if student.student_temperature is not None:
        parts.append(f"the student's T {student.student_temperature:g}")
    if student.label_stages is not None:
        soft = sum(share for kind, share in student.label_stages if kind == "soft")
        parts.append(f"{100 * soft:g} % of the steps soft")
    return ", ".join(parts)


def short_keys(keys: Collection[str]) -> dict[str, str]:
    """The shortest ending of each dotted key that no other has, such as ``gamma`` or ``gaussian.weight``."""
    return {key: _shortest_ending(key, keys) for key in keys}


def _shortest_ending(key: str, keys: Collection[str]) -> str:
    parts = key.split(".")
    for start in range(len(parts) - 1, 0, -1):
        ending = ".".join(parts[start:])
        if sum(other == ending or other.endswith(f".{ending}") for other in keys) == 1:
            return ending
    return key


def value_text(value: JsonValue) -> str:
    """A value as YAML writes it in a line, without needless digits: ``10``, ``[0.08, 1]``, ``null``."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {value_text(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(value_text, value)) + "]"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.12g}" if isinstance(value, float) else str(value)


def value_of_key(values: Mapping[str, JsonValue], key: str) -> str:
    """The value of a key as YAML writes it, or that there is none."""
    return value_text(values[key]) if key in values else "not set"


def point_text(at: Mapping[str, JsonValue], names: Mapping[str, str]) -> str:
    """A point of a grid in a title, for example ``gamma = 10, lr = 0.1``.

    Args:
        at: values by dotted key.
        names: what ``short_keys`` calls the keys.
    """
    return ", ".join(f"{names[key]} = {value_text(value)}" for key, value in at.items())


def folder_name(at: Mapping[str, JsonValue], names: Mapping[str, str]) -> str:
    """A point of a grid in the name of a folder, for example ``gamma-10-lr-0_1``.

    The name has letters, digits, ``+``, ``-`` and ``_`` alone; the arguments are those of ``point_text``.
    """
    return "-".join(f"{_safe(names[key])}-{_safe(value_text(value))}" for key, value in at.items())


def _safe(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9+-]+", "_", text).strip("_")

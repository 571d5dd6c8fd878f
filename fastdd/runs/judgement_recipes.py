"""The recipes that judge finished sets: one for each number of images a class, with the sets as arms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from pydantic import JsonValue

from .. import teachers
from ..config import Data, Given, Method, Recipe, Student, Teacher
from ..config.student import PLAIN, REGIMES, in_regime, regime_of
from ..config.validation import validated
from ..data.open import check_recorded_root, open_dataset
from ..distilled.runs import RunSource
from ..errors import InputError, suggestion
from ..labels import LabelManifest
from ..models.outline import network_for
from ..models.registry import students as networks_of
from ..recipes.overrides import parse_overrides, value_of
from ..recipes.students import network_key, resolve_student
from ..runtime.console import counted
from ..runtime.distributed import say_once
from ..runtime.seeds import seeded
from ..teachers.weights import read_weights
from .given_sets import OpenSet, open_given, require_same
from .given_views import given_views, open_views, students_of_views
from .judgement import JudgedSet, Judgement, JudgeRequest, is_same_place, safe, with_views


def recipes(request: JudgeRequest, sets: Sequence[JudgedSet], earlier: Judgement) -> dict[int, Recipe]:
    """The recipe that judges the sets of each number of images a class, by that number, with those that are
    judged in the folder already; numbers of which no set is given stay as they are.

    Raises:
        InputError: a set cannot be read or does not fit the teacher, the other sets or what is asked for.
    """
    first = next((each.source for each in sets if each.source is not None), None)
    teacher = _teacher(request, first, earlier)
    known = _known(request, teacher, sets[0], first, earlier)
    if known.card is not None and (earlier.first is None or request.teacher is not None):
        teacher |= {"network": known.card.network, "mean": known.card.mean, "std": known.card.std}
    if _is_fixed(request, earlier):
        sets = with_views(sets, request.labels)
    elif request.labels:
        raise InputError(
            "--labels is for the regime fixed, which --regimes leaves out; add fixed to --regimes, or leave "
            "--labels out"
        )
    arms, views, shape = _arms_by_size(request, sets, earlier, known)
    say_once(_same_images(arms))
    data = _data(request, first, sets[0], earlier, channels=known.channels, side=shape[1])
    kinds = _students(request, len(known.classes), shape, earlier)
    if known.card is None and "network" not in teacher:  # squeeze trains one, of the students' network
        teacher["network"] = next(iter(kinds.values())).network
    teacher |= _of_teacher(request.teacher_overrides)
    there = earlier.first or Recipe(name="judge", arms={})
    said = {"full_set": request.full_set, "students": request.trains}
    said = {key: value for key, value in said.items() if value is not None}
    common: dict[str, object] = {
        "name": "judge",
        "seed": there.seed if request.seed is None else request.seed,
        "device": request.device,
        "data": data,
        "teacher": teacher,
        "student": _plain(next(iter(kinds.values()))),
        "metrics": there.metrics.model_dump(mode="json") | said,
    }
    further = dict(list(kinds.items())[1:])
    return {
        ipc: validated(
            Recipe,
            {
                **common,
                "ipc": ipc,
                "description": _described(of_size),
                "arms": {name: method.model_dump(mode="json") for name, method in of_size.items()},
                **_further(further, kinds, views[ipc], earlier.recipes.get(ipc)),
            },
            "judge",
        )
        for ipc, of_size in sorted(arms.items())
    }


def _arms_by_size(
    request: JudgeRequest, sets: Sequence[JudgedSet], earlier: Judgement, known: _Known
) -> tuple[dict[int, dict[str, Method]], dict[int, dict[str, LabelManifest]], tuple[int, int, int]]:
    """The sets as arms, beside those that are there, by their number of images a class.

    Args:
        known: the classes.

    Returns:
        The arms; what the labels of views are that came with new ones; and (C, H, W) of all images.
    """
    arms: dict[int, dict[str, Method]] = {}
    views: dict[int, dict[str, LabelManifest]] = {}
    shape: tuple[int, int, int] | None = None
    for each in sets:
        found = open_given(Path(each.path), each.arm, known.classes, known.channels)
        channels, height, width = found.set.shape
        if shape is not None and shape != (channels, height, width):
            raise InputError(
                f"the images of {sets[0]} are {shape[1]} x {shape[2]} pixels, those of {each} {height} x "
                f"{width}; judge sets of one size together"
            )
        shape, ipc = (channels, height, width), _images_a_class(each, found, request.ipc)
        if ipc not in arms:
            arms[ipc], views[ipc] = earlier.arms(ipc), {}
        name, of_views = _add(arms[ipc], each, found, ipc, earlier)
        if of_views is not None:
            views[ipc][name] = of_views
    assert shape is not None  # there is a set
    return arms, views, shape


def _is_fixed(request: JudgeRequest, earlier: Judgement) -> bool:
    """Whether students learn stored labels."""
    if request.trains is False:
        return False
    if earlier.first is None or request.regimes:
        return "fixed" in (request.regimes or REGIMES)
    return any(regime_of(kind) == "fixed" for kind in earlier.first.all_students.values())


def _add(
    arms: dict[str, Method], each: JudgedSet, found: OpenSet, ipc: int, earlier: Judgement
) -> tuple[str, LabelManifest | None]:
    """Put a set among the arms of its size; those that are there keep their names and their order.

    Returns:
        The arm's name; and what the labels of its views are, where it is new and some came with it.
    """
    name = earlier.arm_of(ipc, each)
    if name is not None:
        given = arms[name].given
        assert given is not None  # it is a judgement
        require_same(found, given, ipc)
        return name, None
    name = each.name if each.name not in arms else each.longer_name
    if name in arms:
        raise InputError(
            f"{each} would be called {name!r} in {earlier.out}, as another set is there; rename its folder"
        )
    method = found.method(ipc, each.title, each.path, each.arm)
    assert method.given is not None  # it takes the set
    of_views = None if each.views is None else open_views(each.views, found, ipc)
    if each.views is not None:
        given = method.given.model_copy(update={"views": given_views(each.views)})
        method = method.model_copy(update={"given": given})
    arms[name] = method
    return name, of_views


def _further(
    further: Mapping[str, Student],
    kinds: Mapping[str, Student],
    views: Mapping[str, LabelManifest],
    there: Recipe | None,
) -> dict[str, object]:
    """The further kinds of students of a recipe: those of all sets, and of each set that came with labels of
    its views those that learn them.

    Args:
        further: all kinds but the first, by name.
        kinds: all kinds by name.
        views: what the labels of views of new sets are, by arm.
        there: the recipe to which sets are added; None: there is none.
    """
    students = {name: _plain(kind) for name, kind in further.items()}
    arms: dict[str, JsonValue] = {}
    stored: dict[str, JsonValue] = {}
    of: dict[str, JsonValue] = {}
    for name, arm in there.student_views.items() if there is not None else ():
        assert there is not None
        students[name] = _plain(there.students[name])
        stored[name] = there.student_labels[name].model_dump(mode="json")
        arms[name], of[name] = [arm], arm
    for arm, manifest in views.items():
        for kind in kinds.values():
            if regime_of(kind) != "fixed" or kind.augment == "none":
                continue
            student, labels = students_of_views(kind, manifest)
            name = safe(f"{kind.network}-fixed-{arm}")
            students[name] = _plain(student)
            stored[name] = labels.model_dump(mode="json")
            arms[name], of[name] = [arm], arm
    return {"students": students, "student_arms": arms, "student_labels": stored, "student_views": of}


def _plain(student: Student) -> dict[str, object]:
    """The values of students, with those that a saved recipe is without."""
    unsaved = {"keep": student.keep, "checkpoint_every": student.checkpoint_every}
    return student.model_dump(mode="json") | unsaved


def _described(arms: Mapping[str, Method]) -> str:
    """The description of a judgement: its sets."""
    return f"Judged beside random real images: {', '.join(map(_place, _given(arms)))}."


def _same_images(arms_by_size: Mapping[int, Mapping[str, Method]]) -> str:
    """A note that names the sets that are the same images with the same soft labels; empty: all differ."""
    places: dict[str, list[str]] = {}
    for arms in arms_by_size.values():
        for given in _given(arms):
            places.setdefault(given.fingerprint, []).append(_place(given))
    same = [", ".join(each) for each in places.values() if len(each) > 1]
    if not same:
        return ""
    return f"note: these sets hold the same images, and each is judged all the same: {'; '.join(same)}"


def _given(arms: Mapping[str, Method]) -> list[Given]:
    """What the arms of a judgement take, all of which are given."""
    return [method.given for method in arms.values() if method.given is not None]


def _place(given: Given) -> str:
    """Where a set is, as a user names it."""
    return given.path if given.arm is None else f"{given.path}:{given.arm}"


def _teacher(request: JudgeRequest, first: RunSource | None, earlier: Judgement) -> dict[str, object]:
    """The section ``teacher``: that of the judgement in the folder, else its weights alone, or nothing where
    squeeze trains it."""
    if earlier.first is not None:
        there = earlier.first.teacher
        weights = there.weights
        if request.teacher is None or (weights and is_same_place(weights, str(request.teacher))):
            return there.model_dump(mode="json")
    found = request.teacher or (None if first is None else first.folder.teacher())
    return {} if found is None else {"weights": str(found)}


def _of_teacher(texts: Sequence[str]) -> dict[str, object]:
    """The values that overrides give to the section ``teacher``."""
    found: dict[str, object] = {}
    for given in parse_overrides(texts):
        key, known = given.key.removeprefix("teacher."), Teacher.model_fields
        if key not in known:
            raise InputError(
                f"{given.key}: a teacher has no value {key!r}{suggestion(key, known)}; known: "
                f"{', '.join(known)}"
            )
        found[key] = value_of(given.text, Recipe, (given.key,))
    return found


class _Known(NamedTuple):
    """What is known of the real images before they are opened.

    Attributes:
        classes: names of their classes in order.
        card: the card of the given teacher; None: there is none, and squeeze trains one or weights without a
            card are used.
    """

    classes: tuple[str, ...]
    channels: Literal[1, 3]
    card: teachers.Card | None


def _known(
    request: JudgeRequest,
    teacher: dict[str, object],
    named: JudgedSet,
    first: RunSource | None,
    earlier: Judgement,
) -> _Known:
    """The classes that the teacher's card names, or those of the real images."""
    weights = teacher.get("weights")
    if weights is not None and not _lacks_card(Path(str(weights)), request.teacher_network):
        with seeded(0):  # its network is built with random weights, before it gets its own
            path, cpu = Path(str(weights)), torch.device("cpu")
            card = teachers.open_teacher(path, cpu, request.teacher_network).card
        return _Known(card.classes, 3 if card.channels == 3 else 1, card)
    if weights is not None:
        teacher["network"] = request.teacher_network
    if earlier.first is not None:
        data = earlier.first.data.model_copy(update={} if request.data is None else {"root": request.data})
    elif request.data is not None:
        data = Data(root=request.data)
    elif first is not None:
        data = first.recipe.data
    else:
        raise InputError(f"{named} is no run, so its real images are unknown; give them with --data ROOT")
    classes = open_dataset(data.root, "train", follow_links=data.follow_links).classes
    return _Known(classes, 1 if data.channels == 1 else 3, None)


def _lacks_card(path: Path, network: str | None) -> bool:
    """Whether weights have no card, and somebody says of which network they are."""
    return network is not None and path.is_file() and read_weights("--teacher", path).card is None


def _images_a_class(each: JudgedSet, found: OpenSet, wanted: int | None) -> int:
    """Stored images of each class that are judged."""
    fewest, most = min(found.counts), max(found.counts)
    if wanted is None and fewest != most:
        raise InputError(
            f"{each} has {counted(fewest, 'image')} of one class and {most} of another; --ipc {fewest} takes "
            "the first ones of every class"
        )
    if wanted is not None and fewest < wanted:
        raise InputError(
            f"{each} has {counted(fewest, 'image')} of a class, but --ipc is {wanted}; set it to {fewest} or "
            "less"
        )
    return wanted or fewest


def _students(
    request: JudgeRequest, classes: int, shape: tuple[int, int, int], earlier: Judgement
) -> dict[str, Student]:
    """The kinds of students of all sets, by name: those of the judgement in the folder, where nothing is said
    of them, else every network in every regime."""
    said = (request.students, request.protocol, request.overrides, request.seeds, request.regimes)
    if (there := earlier.first) is not None and not any(said) and not request.plain:
        return {name: each for name, each in there.all_students.items() if name not in there.student_views}
    seeds = [] if request.seeds is None else [f"seeds={request.seeds}"]
    config = resolve_student({}, request.protocol, [*request.overrides, *seeds])
    found: dict[str, Student] = {}
    key = network_key(request.students, request.overrides)
    for name in networks_of(request.students, shape[1]) or [config.network]:
        network = network_for(key, name, classes, shape)
        student = config.model_copy(update={"network": network})
        for regime in request.regimes or (REGIMES if request.trains is not False else ("hard",)):
            kind = found[safe(f"{network}-{regime}")] = in_regime(student, regime)
            if request.plain and regime != "hard":
                values = {**dict(kind), **PLAIN, "augment": "none"}
                found[safe(f"{network}-{regime}-plain")] = Student.model_validate(values)
    return found


def _data(
    request: JudgeRequest,
    first: RunSource | None,
    named: JudgedSet,
    earlier: Judgement,
    *,
    channels: int,
    side: int,
) -> dict[str, object]:
    """The real images: those that are asked for, else those of the judgement in the folder, else those of the
    first run among the sets."""
    if earlier.first is not None:
        there = earlier.first.data
        if request.resize is None and (request.data is None or is_same_place(request.data, there.root)):
            return there.model_dump(mode="json")
    if request.data is None and first is None:
        raise InputError(f"{named} is no run, so its real images are unknown; give them with --data ROOT")
    data = (Data() if first is None else first.recipe.data).model_dump(mode="json")
    data["channels"] = channels
    if first is None:
        data["size"] = side
    if request.resize is not None:
        data["resize"] = request.resize
    if request.data is not None:
        data["root"] = request.data
    elif first is not None:
        check_recorded_root(first.recipe.data.root, "--data")
    return data

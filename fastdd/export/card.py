"""The dataset card: what a set was distilled from and how, its results, its licence, and how to load it.

The card of a run's set is made from the run's folder; the card of any other set says that this is not
recorded. Paths of the machine are not shown: only their last name is kept.
"""

from __future__ import annotations

import shlex
import statistics
from collections.abc import Mapping
from pathlib import PurePath

from pydantic import JsonValue

from ..config import CONTROL, FULL, Recipe, Student, as_plain
from ..config.naming import student_titles, value_text
from ..config.yaml_text import dump_yaml
from ..distilled import RunSource
from ..protocols import PROTOCOLS
from ..recipes.students import LENGTHS, resolve_student
from ..run_folder.comparison import Fractions, diverged_text, of_all
from ..runtime.console import bytes_text
from ..version import __version__
from .content import Content

LICENCE = (
    "The images derive from {source}, so its licence and terms of use also apply to them, such as a "
    "restriction to research. Read them before you use or share this set."
)
MEASURES = (
    "Random real images, as many a class, are the control: a set is worth what it adds to them. Coverage is "
    "the share of the real training images that have an image of the set at least as near as their k-th "
    "nearest real neighbour. The Vendi score is the effective number of different images in a class. Cosine "
    "is the mean cosine between images of a class; lower is more diverse. All three are measured on the "
    "teacher's embeddings."
)
"""what the numbers of the table of results mean"""
PATHS = ("root", "weights", "init", "candidates")
"""keys of a recipe whose values may name a file"""


def card(content: Content, form: str, *, files: str, loading: str) -> str:
    """The card as Markdown with a YAML header.

    Args:
        form: the form of the export in words.
        files: pattern of the files that hold images, for the hub's libraries.
        loading: three lines of Python that load the set.
    """
    source = content.distilled.source
    title, origin = _title(source)
    top = {
        "pretty_name": title,
        "license": "other",
        "license_name": "that-of-the-source-data",
        "task_categories": ["image-classification"],
        "size_categories": [_size_category(len(content))],
        "tags": ["dataset-distillation", "fastdd"],
        "configs": [{"config_name": "default", "data_files": [{"split": "train", "path": files}]}],
    }
    parts = [
        f"---\n{dump_yaml(top)}---",
        f"# {title}",
        _overview(content, form, origin),
        f"## How to load it\n\n```python\n{loading}\n```",
        _results(source),
        _evaluation(source),
        f"## Licence\n\n{LICENCE.format(source=origin)}",
        _settings(source),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _title(source: RunSource | None) -> tuple[str, str]:
    """The card's title, and the name of the data set that the images were distilled from."""
    if source is None:
        return "Distilled image set", "a data set that is not recorded here"
    origin = PurePath(source.recipe.data.root).name
    return f"{_method(source)}, distilled from {origin}", origin


def _method(source: RunSource) -> str:
    return source.method.title or source.arm


def _overview(content: Content, form: str, origin: str) -> str:
    """The table at the top of the card."""
    distilled, source = content.distilled, content.distilled.source
    channels, height, width = distilled.images.shape[1:]
    images, per_file = f"{len(content):,} of {len(content.names):,} classes", distilled.storage.per_file
    if per_file > 1:
        images += f", unpacked; the run stores {per_file} of them in one image file"
    if content.logits is not None:
        form += ", with the teacher's logits of each image"
    rows = {
        "images": images,
        "pixels": f"{height} x {width}, {'RGB' if channels == 3 else 'grey'}, PNG",
        "form": form,
        "distilled from": origin,
    }
    if source is None:
        rows["method, recipe, teacher"] = "not recorded"
    else:
        rows |= _origins(source, origin)
    rows["exported with"] = f"fastdd {__version__}"
    return "\n".join(["| | |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in rows.items())])


def _origins(source: RunSource, origin: str) -> dict[str, str]:
    """What the run says of where the set comes from."""
    recipe, manifest = source.recipe, source.manifest
    accuracy = source.metrics.teacher.accuracy if source.metrics else None
    reached = "" if accuracy is None else f", {accuracy:.1%} top-1"
    kinds = _kinds(recipe)
    titles, protocols = student_titles(kinds), [student.protocol for student in kinds.values()]
    rows = {
        "images a class (IPC)": str(recipe.ipc),
        "method": _method(source),
        "recipe": f"{recipe.name} ({manifest.recipe_hash}), arm {source.arm}",
        "teacher": f"{recipe.teacher.network}{reached}",
        "students": "; ".join(
            f"{title}, protocol {name}" for title, name in zip(titles.values(), protocols, strict=True)
        )
        or "none were trained",
        "made with": f"fastdd {manifest.fastdd}, torch {manifest.versions.torch}",
    }
    rows |= _costs(source, titles)
    if source.splits is not None:
        train = source.splits[0]
        rows["distilled from"] = f"{origin}, {train.images:,} images of {train.split}"
        rows["its fingerprint"] = f"{train.fingerprint} (of {train.fingerprint_of})"
    return rows


def _kinds(recipe: Recipe) -> dict[str, Student]:
    """The kinds of students by name, those of the section ``student`` under an empty one; empty where none
    are trained."""
    return recipe.all_students if recipe.metrics.students else {}


def _costs(source: RunSource, titles: Mapping[str, str]) -> dict[str, str]:
    """Bytes that each kind of students reads, and what the images took to make, where the run says so.

    Args:
        titles: network and labels of each kind of students, by name.
    """
    rows: dict[str, str] = {}
    result = None if source.metrics is None else source.metrics.arms.get(source.arm)
    kinds = {} if result is None else {student: each.shipped for student, each in result.kinds.items()}
    for student, found in kinds.items():
        if found is not None and student in titles:
            parts = {"images": found.images, "labels": found.labels, "teacher": found.teacher}
            texts = [f"{name} {bytes_text(count)}" for name, count in parts.items() if count]
            labelled = f"; teachers label {found.forwards:,} images for a student" if found.forwards else ""
            rows[f"read by {titles[student]}"] = f"{bytes_text(found.total)}: {', '.join(texts)}{labelled}"
    work = source.manifest.stages.get(f"recover {source.arm}")
    if work is not None and source.arm != CONTROL:
        machine = source.manifest.machine
        where = machine.cpu if machine.device == "cpu" else machine.device
        rows["made in"] = f"{work.seconds:,.0f} s on {where}, {work.images:,} iterations of an image"
    return rows


def _results(source: RunSource | None) -> str:
    """What the run measured of the set, of the control and of the whole real training set."""
    if source is None or source.metrics is None or source.arm not in source.metrics.arms:
        return ""
    metrics, recipe = source.metrics, source.recipe
    titles = student_titles(_kinds(recipe))
    names = [*(f"top-1 % (last, {title})" for title in titles.values()), "coverage", "Vendi", "cosine"]
    rows = [f"| | {' | '.join(names)} |", f"| --- |{' --- |' * len(names)}"]
    last = [metrics.last(student) for student in titles]
    for name in dict.fromkeys((source.arm, CONTROL)):
        arm = metrics.arms[name]
        accuracies = [_accuracy(each[name]) if name in each else "-" for each in last]
        numbers = [f"{value:z.3f}" for value in (arm.coverage, arm.vendi, arm.cosine)]
        rows.append(f"| {arm.marked_title} | {' | '.join([*accuracies, *numbers])} |")
    if metrics.full_set is not None:
        accuracies = [_accuracy(each[FULL]) for each in last]
        rows.append(f"| {metrics.full_set.title} | {' | '.join([*accuracies, '-', '-', '-'])} |")
    protocols = metrics.protocols
    configs = _kinds(recipe)
    texts = [
        f"Protocol {configs[student].protocol} ({protocols[student].hash}) of {title}: "
        f"{protocols[student].text}."
        for student, title in titles.items()
    ]
    data = metrics.data
    tested = f"Students and teacher are tested on the {data.test:,} test images."
    if data.validation is not None:
        tested = (
            f"Students are tested on the {data.evaluated:,} {data.evaluated_on} images; {data.validation:,} "
            "of the training images were withheld for validation, on which the teacher is tested."
        )
    text = " ".join([*texts, tested, f"Coverage has k = {metrics.k}."])
    return "\n".join(["## Results", "", *rows, "", text, "", MEASURES])


def _evaluation(source: RunSource | None) -> str:
    """The command that evaluates the set as the run did, under the protocol of its section ``student``."""
    if source is None:
        return ""
    student = source.recipe.student
    preset = resolve_student({}, student.protocol) if student.protocol in PROTOCOLS else Student()
    changed = [
        f"{key}={value_text(value)}"
        for key, value in student.model_dump(mode="json", exclude={"protocol"}).items()
        if value != preset.model_dump(mode="json")[key] and not (key in LENGTHS and value is None)
    ]
    command = shlex.join(["--protocol", student.protocol, *changed])
    of_run = shlex.join(["fastdd", "evaluate", source.folder.path.resolve().name, "--arm", source.arm])
    return (
        "## How to evaluate it\n\n```\n"
        f"fastdd evaluate FOLDER --teacher TEACHER.safetensors --data REAL_IMAGES {command}\n```\n\n"
        "FOLDER holds the images as CLASS/IMAGE, as `fastdd export --to imagefolder` writes them. If you "
        f"have the folder of the run: `{of_run}`."
    )


def _accuracy(last: Fractions) -> str:
    if (fractions := of_all(last)) is None:
        return f"none ({diverged_text(last)})"
    return f"{100 * statistics.mean(fractions):.1f} ({len(last)} student{'s' * (len(last) > 1)})"


def _settings(source: RunSource | None) -> str:
    """The recipe without the methods of other arms."""
    if source is None:
        return ""
    recipe = as_plain(source.recipe)
    del recipe["arms"]
    method = source.recipe.arms.get(source.arm)
    recipe["method"] = "random real images" if method is None else method.model_dump(mode="json")
    text = dump_yaml(without_folders(recipe))
    return f"## Settings\n\n```yaml\n{text}```"


def without_folders(node: JsonValue, key: str = "") -> JsonValue:
    """A recipe, or a part of it under a key, in which each path is cut to its last name."""
    if isinstance(node, dict):
        return {name: without_folders(value, name) for name, value in node.items()}
    return PurePath(node).name if isinstance(node, str) and key in PATHS else node


def _size_category(images: int) -> str:
    """The hub's name for a number of images."""
    steps = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
    return next((name for limit, name in steps if images < limit), "1M<n<10M")

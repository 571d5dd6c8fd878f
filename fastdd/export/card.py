"""The dataset card: what a set was distilled from and how, its results, its licence, and how to load it.

The card of a run's set is made from the run's folder; the card of any other set says that this is not
recorded. Paths of the machine are not shown: only their last name is kept.
"""

from __future__ import annotations

import statistics
from pathlib import PurePath
from typing import Any

import yaml

from ..version import __version__
from .content import Content

LICENCE = (
    "The images derive from {source}: its licence and terms of use, such as a restriction to research, go "
    "for them too. Check them before you share or use this set."
)
PATHS = ("root", "weights", "init")
"""keys of a recipe that may name a file"""


def card(content: Content, form: str, *, files: str, loading: str) -> str:
    """Markdown with a YAML header.

    Args:
        form: of the export, in words.
        files: pattern of the files of images, for the hub's libraries.
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
        f"---\n{yaml.safe_dump(top, sort_keys=False, allow_unicode=True)}---",
        f"# {title}",
        _facts(content, form, origin),
        f"## How to load it\n\n```python\n{loading}\n```",
        _results(source),
        f"## Licence\n\n{LICENCE.format(source=origin)}",
        _settings(source),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _title(source: dict[str, Any] | None) -> tuple[str, str]:
    """Title, and the name of the data set that the images were distilled from."""
    if source is None:
        return "Distilled image set", "a data set that is not recorded here"
    origin = PurePath(_under(source["recipe"], "data", "root") or "an unnamed data set").name
    return f"{_method(source)}, distilled from {origin}", origin


def _method(source: dict[str, Any]) -> str:
    measured = _under(source["metrics"], "arms", source["arm"], "title")
    return str(measured or _under(source["recipe"], "arms", source["arm"], "title") or source["arm"])


def _under(values: Any, *keys: str) -> Any:
    """A nested value, or None where there is none: runs of earlier versions say less."""
    for key in keys:
        values = values.get(key) if isinstance(values, dict) else None
    return values


def _facts(content: Content, form: str, origin: str) -> str:
    distilled, source = content.distilled, content.distilled.source
    channels, height, width = distilled.images.shape[1:]
    images, formed = f"{len(content):,} of {len(content.names):,} classes", distilled.images_per_file
    rows = {
        "images": images
        + (f", unpacked; the run stores {formed} in the pixels of one" if formed > 1 else ""),
        "pixels": f"{height} x {width}, {'RGB' if channels == 3 else 'grey'}, PNG",
        "form": form + (", with the teacher's logits of each image" if content.logits is not None else ""),
        "distilled from": origin,
    }
    if source is None:
        rows["method, recipe, teacher"] = "not recorded"
    else:
        rows |= _origins(source, origin)
    rows["exported with"] = f"fastdd {__version__}"
    return "\n".join(["| | |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in rows.items())])


def _origins(source: dict[str, Any], origin: str) -> dict[str, str]:
    """What a run's folder says of where its set comes from."""
    recipe, manifest = source["recipe"], source["manifest"]
    accuracy = _under(source["metrics"], "teacher", "accuracy")
    rows = {
        "method": _method(source),
        "recipe": f"{_under(recipe, 'name')} ({_under(manifest, 'recipe_hash')}), arm {source['arm']}",
        "teacher": f"{_under(recipe, 'teacher', 'network')}"
        + ("" if accuracy is None else f", {accuracy:.1%} top-1"),
        "made with": f"fastdd {_under(manifest, 'fastdd')}, torch {_under(manifest, 'versions', 'torch')}",
    }
    if source["data"] and "images" in source["data"][0]:
        train = source["data"][0]
        rows["distilled from"] = f"{origin}, {train['images']:,} images of {train['split']}"
        rows["its fingerprint"] = f"{train['fingerprint']} (of {train['fingerprint_of']})"
    return rows


def _results(source: dict[str, Any] | None) -> str:
    """What the run measured of the set, of as many random real images and of the whole real training set."""
    if source is None or not _under(source["metrics"], "arms", source["arm"]):
        return ""
    metrics = source["metrics"]
    rows = ["| | top-1 % (last) | coverage | Vendi | cosine |", "| --- | --- | --- | --- | --- |"]
    for arm in dict.fromkeys((source["arm"], "random")):
        values = metrics["arms"].get(arm, {})
        cells = [
            _accuracy(values.get("last")),
            *(_number(values.get(name)) for name in ("coverage", "vendi", "cosine")),
        ]
        rows.append(f"| {values.get('title', arm)} | {' | '.join(cells)} |")
    if whole := _under(metrics, "full_set", "last"):
        rows.append(f"| {_under(metrics, 'full_set', 'title')} | {_accuracy(whole)} | - | - | - |")
    protocol = _under(metrics, "protocol") or {}
    said = f"Protocol {protocol.get('hash', '?')}: {protocol.get('text', '?')}."
    said += f" Coverage with k = {metrics.get('k', '?')}."
    return "\n".join(["## Results", "", *rows, "", said])


def _accuracy(students: Any) -> str:
    last = [value for value in students or [] if isinstance(value, float)]
    return (
        "-" if not last else f"{100 * statistics.mean(last):.1f} ({len(last)} student{'s' * (len(last) > 1)})"
    )


def _number(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else "-"


def _settings(source: dict[str, Any] | None) -> str:
    if source is None:
        return ""
    recipe = dict(source["recipe"])
    arms = recipe.pop("arms", {}) or {}
    recipe["method"] = arms.get(source["arm"], "random real images")
    text = yaml.safe_dump(_without_folders(recipe), sort_keys=False, allow_unicode=True)
    return f"## Settings\n\n```yaml\n{text}```"


def _without_folders(node: Any, key: str = "") -> Any:
    if isinstance(node, dict):
        return {name: _without_folders(value, name) for name, value in node.items()}
    return PurePath(node).name if isinstance(node, str) and key in PATHS else node


def _size_category(images: int) -> str:
    """The hub's word for a number of images."""
    steps = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
    return next((name for limit, name in steps if images < limit), "1M<n<10M")

"""The leaderboard: every set of given results in one table, beside the control that it was measured with.

A row is a set and a kind of students. Rows compare where data set, images a class and protocol are the same,
so they are grouped by those, and within a group the rank is by the difference from random real images. Sets
that a difference does not tell from the control are said to be so; nothing is left out.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePath

from pydantic import ValidationError

from ..config import CONTROL, as_plain
from ..config.yaml_text import dump_yaml
from ..errors import InputError, refusals_explained, suggestion
from ..export.card import without_folders
from ..run_folder import Manifest, Metrics, RunFolder, read, read_recipe
from ..run_folder.comparison import difference, difference_text, of_all
from ..run_folder.manifest import require_unedited_results
from ..run_folder.reading import first_fault
from ..run_folder.results import ProtocolResult
from ..runtime.console import bytes_text
from ..runtime.files import write_json, write_text
from .figures import mean, spread
from .templates import environment

PAGE, ROWS = "index.html", "leaderboard.json"
KEYS = {"recipe", "ipc", "protocol", "arms"}
"""keys by which a JSON file is known as a run's results"""
REGIMES = {"hard labels": "hard", "stored labels": "fixed", "online labels": "online"}
"""what a protocol's line says of labels, in results of earlier versions -> the regime: classes alone, labels
stored beforehand, or a teacher that labels every view"""
LARGEST = 64 << 20
"""bytes; a larger JSON file is not looked into"""


@dataclass(frozen=True)
class Source:
    """A file of results.

    Attributes:
        number: its place on the page, from 1.
        name: its path as it was found, for people.
        recipe: the resolved recipe beside it, in which paths are cut to their last name, or empty.
        iterations: arm -> iterations of its images, summed over them, where the run's manifest is beside it.
    """

    number: int
    name: str
    metrics: Metrics
    recipe: str
    iterations: dict[str, int]


@dataclass(frozen=True)
class Row:
    """A set and a kind of students.

    Attributes:
        data: name of the data set; where results have others of that name, also its numbers of training and
            test images.
        tested_on: its images that the students are tested on.
        ipc: images a class as stored.
        seen: images a class that students see; None: the whole training set.
        regime: where labels come from; ``?`` where the protocol's line does not say.
        arm: name of the set in its recipe; ``full`` is the whole training set.
        role: ``control``, ``reference`` (the whole training set) or empty.
        accuracy, deviation: mean and sample standard deviation in percent; None where a student diverged, or
            there is one.
        gain: difference from the control in percentage points, and half its 95 % interval; None likewise.
        interval: see ``gain``.
        told: the difference in words.
        distinguishable: whether the interval leaves 0 out.
        leaks: whether the set holds images that students are tested on, so that its accuracies say nothing.
        bytes: what students read; None: an earlier version measured it.
        forwards: images that teachers label for one student; None likewise.
        iterations: iterations of its images, summed over them; None: not known.
        protocol: hash of the protocol; rows compare only where it is the same.
    """

    data: str
    tested_on: str
    ipc: int
    seen: int | None
    regime: str
    student: str
    arm: str
    title: str
    role: str
    accuracy: float | None
    deviation: float | None
    seeds: int
    gain: float | None
    interval: float | None
    told: str
    distinguishable: bool
    leaks: bool
    bytes: int | None
    forwards: int | None
    iterations: int | None
    protocol: str
    source: int

    @property
    def bytes_told(self) -> str:
        """Bytes in words."""
        return "–" if self.bytes is None else bytes_text(self.bytes)


@refusals_explained()
def leaderboard(paths: Sequence[str | Path], out: str | Path) -> Path:
    """Write the page of many results, and its rows as JSON.

    Args:
        paths: run folders, files of results (metrics.json under any name), or folders in which they lie, at
            any depth.
        out: a folder that is absent, empty, or a leaderboard's.

    Returns:
        The page, ``index.html``; ``leaderboard.json`` lies beside it. Both are written whole or not at all.

    Raises:
        InputError: a path is not there or holds no results, a file of results cannot be read, or
            ``out`` holds something else.
    """
    folder = Path(out)
    _require_own(folder)
    sources = _sources(paths)
    rows = _of_unlike_data([row for source in sources for row in rows_of(source)], sources)
    if not rows:
        raise InputError(f"{sources[0].name} was measured without students; give results with accuracies")
    groups = _grouped(rows)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / ROWS, [asdict(row) for group in groups for row in group])
    protocols = {p.hash: p.text for source in sources for p in _protocols(source.metrics).values()}
    choices = {
        name: sorted({getattr(row, name) for row in rows}) for name in ("data", "ipc", "regime", "student")
    }
    context = {"groups": groups, "sources": sources, "protocols": protocols, "choices": choices, "rows": rows}
    write_text(folder / PAGE, environment().get_template("leaderboard.html").render(context))
    return folder / PAGE


def _require_own(folder: Path) -> None:
    if folder.is_dir():
        if all(entry.name in (PAGE, ROWS) for entry in folder.iterdir()):
            return
    elif not folder.exists():
        return
    else:
        raise InputError(f"{folder} is a file, and a leaderboard is a folder; name a new folder with --out")
    raise InputError(f"{folder} holds other files than a leaderboard's; name a new folder with --out")


# -- results ----------------------------------------------------------------------------------------


def _sources(paths: Sequence[str | Path]) -> list[Source]:
    """All results, each file once."""
    files: dict[Path, str] = {}
    for path in map(Path, paths):
        if not path.exists():
            near = suggestion(str(path), map(str, path.parent.glob("*")))
            raise InputError(f"{path} does not exist{near}; give run folders, or folders or files of results")
        found = [path] if path.is_file() else sorted(path.rglob("*.json"))
        results = [file for file in found if _is_results(file)]
        if not results:
            raise InputError(f"{path} holds no results (metrics.json); give folders of finished runs")
        files |= {file.resolve(): str(file) for file in results if file.resolve() not in files}
    return [source_of(Path(name), number) for number, name in enumerate(files.values(), 1)]


def _is_results(file: Path) -> bool:
    """Whether a JSON file is a run's results; a metrics.json is, whatever it holds."""
    if file.name == RunFolder(file.parent).metrics.name:
        return True
    if not file.is_file() or file.stat().st_size > LARGEST:
        return False
    try:
        content = json.loads(file.read_bytes())
    except ValueError:
        return False
    return isinstance(content, dict) and content.keys() >= KEYS


def source_of(file: Path, number: int = 1) -> Source:
    """A file of results and what lies beside it.

    Raises:
        InputError: it cannot be read.
    """
    run = RunFolder(file.parent)
    metrics, recipe, iterations = _metrics(file), "", dict[str, int]()
    if run.metrics == file and run.is_run():
        recipe = dump_yaml(without_folders(as_plain(read_recipe(run))))
        stages = read(run.manifest, Manifest).stages
        iterations = {
            arm: stages[f"recover {arm}"].images for arm in metrics.arms if f"recover {arm}" in stages
        }
        iterations.pop(CONTROL, None)
    return Source(number, str(file.parent if run.metrics == file else file), metrics, recipe, iterations)


def _metrics(file: Path) -> Metrics:
    try:
        found = Metrics.model_validate_json(file.read_bytes())
    except ValidationError as error:
        raise InputError(
            f"{file} cannot be read as results of this version of fastdd ({first_fault(error)}); leave it "
            "out, or measure again what it is of"
        ) from error
    require_unedited_results(file, "leave it out, or measure again what it is of")
    return found


def _protocols(metrics: Metrics) -> dict[str, ProtocolResult]:
    """The protocols of the kinds of students, by name; empty where none were trained."""
    return metrics.protocols if metrics.protocol.seeds else {}


def data_name(root: str) -> str:
    """Name of a data set from its path: its last part without endings, such as ``cifar10``."""
    return PurePath(root).name.partition(".")[0] or root


def rows_of(source: Source) -> Iterator[Row]:
    """The rows of a file of results: each kind of students, and each set that it learned from."""
    for student in _protocols(source.metrics):
        for name in source.metrics.last(student):
            yield _row(source, student, name)


def _row(source: Source, student: str, name: str) -> Row:
    metrics = source.metrics
    protocol, last, arm = metrics.protocols[student], metrics.last(student), metrics.arms.get(name)
    fractions, found = of_all(last[name]), None if name == CONTROL else difference(last[name], last[CONTROL])
    title = arm.marked_title if arm is not None else metrics.full_set.title if metrics.full_set else ""
    kind = None if arm is None else arm.kinds.get(student)
    shipped = None if kind is None else kind.shipped
    return Row(
        data=data_name(source.metrics.data.root),
        tested_on=source.metrics.data.evaluated_on,
        ipc=source.metrics.ipc,
        seen=None if arm is None else arm.seen,
        regime=protocol.regime or _told_regime(protocol.text),
        student=protocol.network or protocol.text.partition(",")[0],
        arm=name,
        title=title,
        role="control" if name == CONTROL else "reference" if arm is None else "",
        accuracy=100 * mean(fractions) if fractions else None,
        deviation=100 * spread(fractions) if fractions and len(fractions) > 1 else None,
        seeds=len(last[name]),
        gain=None if found is None else 100 * found.mean,
        interval=None if found is None or found.interval is None else 100 * found.interval,
        told="" if found is None else difference_text(found).replace("-", "−"),
        distinguishable=found is not None and found.distinguishable,
        leaks=arm is not None and arm.leaks,
        bytes=None if shipped is None else shipped.total,
        forwards=None if shipped is None else shipped.forwards,
        iterations=source.iterations.get(name),
        protocol=protocol.hash,
        source=source.number,
    )


def _of_unlike_data(rows: list[Row], sources: Sequence[Source]) -> list[Row]:
    """The rows, where data sets of one name and other numbers of images have these behind their names, so
    that their sets do not stand beside one another."""
    counts = {each.number: (each.metrics.data.train, each.metrics.data.test) for each in sources}
    by_name: dict[str, set[tuple[int, int]]] = {}
    for row in rows:
        by_name.setdefault(row.data, set()).add(counts[row.source])
    found = []
    for row in rows:
        train, test = counts[row.source]
        unlike = len(by_name[row.data]) > 1
        found.append(replace(row, data=f"{row.data} ({train:,} / {test:,})") if unlike else row)
    return found


def _told_regime(text: str) -> str:
    """The regime that a protocol's line tells."""
    return next((regime for words, regime in REGIMES.items() if words in text), "?")


def _grouped(rows: Iterable[Row]) -> list[list[Row]]:
    """Rows that compare: one data set, images a class and protocol; the best difference from the control
    first, then the control and what has no difference, sets that hold test images, the whole training set."""
    groups: dict[tuple[str, str, int, str, str, str], list[Row]] = {}
    for row in rows:
        key = (row.data, row.tested_on, row.ipc, row.regime, row.student, row.protocol)
        groups.setdefault(key, []).append(row)
    for group in groups.values():
        group.sort(key=lambda row: (row.role == "reference", row.leaks, row.gain is None, -(row.gain or 0.0)))
    return [groups[key] for key in sorted(groups)]

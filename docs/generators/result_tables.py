"""Tables and numbers of the pages, out of the committed results in benchmarks/results: none is typed twice.

A page writes ``{{ last("cifar10_methods_ipc10", "deda") }}``; the functions below are what it may call.
Accuracies are those after the last step, in percent, as mean and sample standard deviation over the
students' seeds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from typing import Any

from markdown_pieces import ROOT, code, escaped, table

from fastdd.config import CONTROL
from fastdd.config.naming import label_words
from fastdd.methods import METHODS
from fastdd.recipes.resolve import resolve
from fastdd.report.leaderboard import Row, rows_of, source_of
from fastdd.run_folder import Metrics
from fastdd.runtime.console import counted

RESULTS = ROOT / "benchmarks/results"
KEYS = {"recipe", "ipc", "protocol", "arms"}
"""keys by which a file is known as the metrics.json of a run"""


@cache
def runs() -> dict[str, list[Row]]:
    """The committed results of runs: name of the file without its ending -> its rows."""
    found = {}
    for number, file in enumerate(sorted(RESULTS.glob("*.json")), 1):
        if json.loads(file.read_bytes()).keys() >= KEYS:
            found[file.stem] = list(rows_of(source_of(file, number)))
    return found


def metrics_of(name: str) -> Metrics:
    """The results of a run by the name of their file."""
    return source_of(RESULTS / f"{name}.json").metrics


def told(fractions: Sequence[float | None]) -> str:
    """Mean and standard deviation of accuracies, in percent."""
    known = [each for each in fractions if each is not None]
    if len(known) < len(fractions) or not known:
        return "diverged" if fractions else "–"
    mean = 100 * sum(known) / len(known)
    if len(known) == 1:
        return f"{mean:.1f} (1 seed)"
    return f"{mean:.1f} ± {(sum((100 * each - mean) ** 2 for each in known) / (len(known) - 1)) ** 0.5:.1f}"


def last(name: str, arm: str, student: str = "") -> str:
    """The accuracy of a set's students; ``full`` is the whole training set."""
    return told(list(metrics_of(name).last(student)[arm]))


def gain(name: str, arm: str, student: str = "") -> str:
    """Points by which the mean accuracy of a set's students is above that of the control's."""
    found = metrics_of(name).last(student)
    return f"{100 * (_mean(found[arm]) - _mean(found[CONTROL])):.1f}"


def mean_percent(name: str, arm: str) -> float:
    """The mean accuracy of a set's students, none of which diverged, in percent."""
    return 100 * _mean(metrics_of(name).last()[arm])


def teacher(name: str) -> str:
    """The teacher's test accuracy in percent."""
    accuracy = metrics_of(name).teacher.accuracy
    return "–" if accuracy is None else f"{100 * accuracy:.1f}"


def protocol(name: str, student: str = "") -> str:
    """A protocol's hash and its line."""
    metrics = metrics_of(name)
    found = metrics.students[student] if student else metrics.protocol
    return f"`{found.hash}`: {found.text}; {counted(found.seeds, 'seed')}"


def arms(
    name: str,
    wanted: Sequence[str] = (),
    students: Sequence[str] = ("",),
    titles: Sequence[str] = ("accuracy, last %",),
) -> str:
    """A table of sets, one a row, and of kinds of students, one a column; the best of each column is bold.

    Args:
        wanted: the sets in order; empty: all.
        students: names of the kinds of students; empty is the section ``student``.
        titles: headings of their columns.
    """
    metrics = metrics_of(name)
    found = {student: metrics.last(student) for student in students}
    names = list(wanted) or list(found[students[0]])
    sets = [arm for arm in names if arm != "full"]
    best = {student: max(sets, key=lambda arm: _mean(found[student].get(arm, ()))) for student in students}
    rows = []
    for arm in names:
        cells = [told(list(found[student].get(arm, ()))) for student in students]
        places = zip(students, cells, strict=True)
        shown = [f"**{cell}**" if best[student] == arm else cell for student, cell in places]
        rows.append([_title(metrics, arm), *shown])
    return table(["set", *titles], rows)


def _mean(fractions: Sequence[float | None]) -> float:
    known = [each for each in fractions if each is not None]
    return sum(known) / len(known) if known else 0.0


def _title(metrics: Metrics, arm: str) -> str:
    if arm == "full":
        return "*whole training set, same steps*"
    title = metrics.arms[arm].marked_title or arm
    seen = metrics.arms[arm].seen
    images = f" ({seen} images a class seen)" if seen != metrics.ipc else ""
    return f"**{escaped(title)}** (control)" if arm == "random" else f"{escaped(title)}{images}"


def additions(name: str, addition: str) -> str:
    """Each method without and with an addition, and without it at the addition's batch where the run has that
    control: accuracies, coverage and Vendi score."""
    metrics = metrics_of(name)
    endings = (f"+{addition}", f"-as-{addition}")
    controls = any(arm.endswith(endings[1]) for arm in metrics.arms)
    rows = []
    for arm, result in metrics.arms.items():
        if arm.endswith(endings):
            continue
        others = [f"{arm}{ending}" for ending in (reversed(endings) if controls else endings[:1])]
        other = metrics.arms.get(f"{arm}+{addition}")
        pairs = [(result, each) for each in ("coverage", "vendi")]
        rows.append(
            [
                _title(metrics, arm),
                last(name, arm),
                *(last(name, each) if each in metrics.arms else "–" for each in others),
                *(
                    _number(getattr(of, what))
                    + ("" if other is None else f" / {_number(getattr(other, what))}")
                    for of, what in pairs
                ),
            ]
        )
    title = {"dire": "DiRe"}[addition]
    accuracies = ["last %", *([f"at {title}'s batch, last %"] if controls else []), f"+ {title}, last %"]
    if metrics.full_set is not None:
        rows.append([_title(metrics, "full"), last(name, "full"), *["–"] * (len(accuracies) - 1), "", ""])
    return table(["10 images a class", *accuracies, f"coverage / + {title}", f"Vendi / + {title}"], rows)


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.4f}" if value < 1 else f"{value:.2f}"


def students(files: Sequence[tuple[str, str, str]]) -> str:
    """Sets of `fastdd evaluate --json`, and kinds of students: a table of networks.

    Args:
        files: (file, set, title of its row).
    """
    rows = []
    for name, arm, title in files:
        found = json.loads((RESULTS / f"{name}.json").read_bytes())["students"]
        row = [title]
        for network in ("resnet8", "convnet3"):
            row.append(
                told([each["last"] for each in found if each["arm"] == arm and each["network"] == network])
            )
        rows.append(row)
    return table(["set", "ResNet-8", "ConvNet-3"], rows)


def evaluated(name: str, arm: str) -> str:
    """The accuracy of a set in a file of `fastdd evaluate --json`, all its networks together."""
    found = json.loads((RESULTS / f"{name}.json").read_bytes())["students"]
    return told([each["last"] for each in found if each["arm"] == arm])


def held_out(run: str, arm: str) -> str:
    """The accuracy of a set on what the house method was not found on."""
    found: Any = json.loads((RESULTS / "cifar10_held_out_ipc10.json").read_bytes())
    return told(found["runs"][run]["arms"][arm]["last"])


def stored_labels() -> str:
    """Bytes of stored labels against accuracy."""
    found: Any = json.loads((RESULTS / "cifar10_labels_ipc10.json").read_bytes())
    rows = [["released FKD layout, fp16", f"{found['fkd']['bytes'] / 1e6:.2f} MB", "–", "–"]]
    for form, each in found["forms"].items():
        accuracies = (told(each["last"][arm]) for arm in ("random", "kmeans"))
        rows.append([form, f"{each['bytes']['random'] / 1e6:.2f} MB", *accuracies])
    return table(["labels", "on disk", "random real images, last %", "k-means, last %"], rows)


def released_bytes() -> int:
    """Bytes of 20,000 labels of ten classes in the released layout."""
    found: Any = json.loads((RESULTS / "cifar10_labels_ipc10.json").read_bytes())
    return int(found["fkd"]["bytes"])


def fkd_megabytes() -> str:
    """The same in megabytes, as words need it."""
    return f"{released_bytes() / 1e6:.1f}"


def label_rates(name: str) -> str:
    """Each way in which a run stores labels: bytes, their share of the released layout's, and accuracies."""
    metrics, released = metrics_of(name), released_bytes()
    recipe, arms = resolve(metrics.recipe).recipe, metrics.arms.values()
    rows = [["not stored: the teacher is asked", "–", "–", *(told(arm.last) for arm in arms)]]
    for name in metrics.students:
        results = [arm.students[name] for arm in arms]
        stored = results[-1].shipped
        assert stored is not None  # students of stored labels
        words = escaped(label_words(recipe.label_rates[name], recipe.students[name]))
        size, share = f"{stored.labels / 1e3:.0f} kB", f"1/{released / stored.labels:.0f}"
        rows.append([words, size, share, *(told(each.last) for each in results)])
    titles = [f"{arm.title}, last %" for arm in arms]
    return table(["labels", "on disk", "of the released layout", *titles], rows)


def measured(method: str) -> str:
    """The rows of all committed results in which a method stands, alone or with an addition."""
    rows = []
    for name, found in runs().items():
        for row in found:
            if row.arm == method or row.arm.partition("+")[0] == method:
                rows.append(
                    [
                        f"{row.data}, {row.ipc} a class",
                        escaped(row.title),
                        f"{row.student}, {REGIMES.get(row.regime, row.regime)}",
                        "diverged" if row.accuracy is None else _with_deviation(row.accuracy, row.deviation),
                        escaped(row.told),
                        f"[{name}](../results/runs.md#{name.replace('_', '-')})",
                    ]
                )
    if not rows:
        return "No committed result has this method yet.\n"
    return table(["data", "set", "students", "last %", "against the control", "run"], rows)


def _with_deviation(mean: float, deviation: float | None) -> str:
    return f"{mean:.1f}" if deviation is None else f"{mean:.1f} ± {deviation:.1f}"


REGIMES = {"hard": "hard labels", "fixed": "stored labels", "online": "a teacher's labels"}


def every_run() -> str:
    """A section for each committed result: what it is, its protocols, and a row for each set."""
    parts = []
    for name in runs():
        metrics = metrics_of(name)
        kinds = ["", *metrics.students]
        rows = []
        for arm in metrics.last(""):
            result = metrics.arms.get(arm)
            cells = [told(list(metrics.last(kind).get(arm, ()))) for kind in kinds]
            extra = (
                ["", "", ""]
                if result is None
                else [_number(result.coverage), _number(result.vendi), _number(result.cosine)]
            )
            rows.append([_title(metrics, arm), *cells, *extra])
        headings = ["set", *(kind or "student" for kind in kinds), "coverage", "Vendi", "cosine"]
        lines = [f"- {code(kind or 'student')}: {escaped(protocol(name, kind))}" for kind in kinds]
        parts.append(
            f"## {name.replace('_', '-')}\n\n{escaped(metrics.description)} Recipe {code(metrics.recipe)}, "
            f"{metrics.ipc} images a class, teacher {metrics.teacher.network} ({teacher(name)} %). The file "
            f"is [{name}.json]({{{{ repository }}}}/blob/main/benchmarks/results/{name}.json).\n\n"
            + "\n".join(lines)
            + "\n\n"
            + table(headings, rows)
        )
    return "\n".join(parts)


def if_measured(pattern: str, command: str) -> str:
    """The tables of all committed runs of a recipe, or the command that makes them."""
    found = [name for name in runs() if metrics_of(name).recipe == pattern]
    if not found:
        return f'!!! note "Not committed yet"\n    This run takes long. `{command}` makes it.\n'
    parts = []
    for name in found:
        metrics = metrics_of(name)
        kinds = ["", *metrics.students]
        parts.append(f"{metrics.ipc} images a class ([run](runs.md#{name.replace('_', '-')})):\n")
        parts.append(arms(name, list(metrics.last("")), kinds, [kind or "last %" for kind in kinds]))
    return "\n".join(parts)


def gallery_page() -> str:
    """A row of images for each committed picture."""
    titles = {
        "random": "Random real images, the control",
        "kmeans": "k-means: real images, chosen",
        "dm-four": "DM, four in one: the first of the four",
        "sre2l-dire": "SRe2L + DiRe",
    }
    parts = []
    for file in sorted(
        (ROOT / "docs/gallery").glob("*.png"),
        key=lambda each: (each.stem not in ("random", "kmeans"), each.stem),
    ):
        name = file.stem
        title = titles.get(name) or f"[{escaped(METHODS[name].title(name))}](../methods/{name}.md)"
        parts.append(f"### {title}\n\n![Ten images of {name}](../gallery/{file.name}){{ .distilled }}\n")
    return "\n".join(parts)


FUNCTIONS = {
    each.__name__: each
    for each in (
        last,
        gain,
        teacher,
        protocol,
        arms,
        additions,
        students,
        evaluated,
        held_out,
        stored_labels,
        label_rates,
        fkd_megabytes,
        measured,
        every_run,
        if_measured,
        gallery_page,
    )
}
"""what pages may call"""

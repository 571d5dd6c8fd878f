"""A run, or its stages one by one: ``fastdd run|squeeze|bank|experts|recover|label RECIPE``; how far it is:
``fastdd status DIR``.
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ..config import CONTROL, FULL
from ..config.naming import student_titles, teacher_section
from ..runtime.console import bytes_text, counted
from ..runtime.distributed import is_main
from .console import follow, new_table, refuse_diverged, say, show_table, spread, with_deviation, work_text
from .options import Commands, overrides_of, regimes_argument

if TYPE_CHECKING:
    from ..recipes.resolve import Resolved
    from ..run_folder import ArmResult, Metrics
    from ..run_folder.comparison import Fractions
    from ..run_folder.results import DataResult
    from ..runs.pipeline import RunResult

STAGE_HELP = {
    "run": "distil, label, train students and report; an interrupted run is continued",
    "squeeze": "do a run up to its teachers, trained or given, and stop",
    "bank": "do a run up to the statistics of the real images, and stop",
    "experts": "do a run up to its experts, networks whose training MTT and TESLA follow, and stop",
    "recover": "do a run up to the distilled images, and stop",
    "label": "do a run up to the soft labels, even where no students read them, and stop",
}
DIVERGED = "lower their learning rate (student.lr), or warm up for longer (student.warmup)"
"""what to do where students diverged"""
FEATURES = ("coverage, CLIP", "Vendi, CLIP", "cosine, CLIP")
"""headings of the diversity in the features that ``metrics.features`` names"""
ROBUST = (
    "LRS, ARS: DD-Ranking's label- and augmentation-robust scores, 0 to 1; a set that is worth random real "
    "images and loses nothing to the whole set with hard labels has 0.269"
)
"""what DD-Ranking's scores are"""
PARTS = {"bank": "classes", "recover": "units"}
MOST_COLUMNS = 3
"""kinds of students that have a column each; where there are more, each has rows of its own"""


def add(commands: Commands) -> None:
    """Add the commands of the stages."""
    for name, text in STAGE_HELP.items():
        stage = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        run_arguments(stage)
        if name == "squeeze":
            stage.add_argument(
                "--committee",
                action="store_true",
                help="then list the teachers, of which what is missing was trained, with the overrides that "
                "give them to other recipes",
            )
        if name in PARTS:
            stage.add_argument(
                f"--{PARTS[name]}",
                dest="part",
                metavar="FIRST:STOP",
                type=_range,
                help=f"do only these {PARTS[name]}, so that many jobs can share one run folder",
            )
        stage.set_defaults(run=run_stage)


def run_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of commands that write a run folder."""
    recipe_arguments(parser)
    parser.add_argument("--out", metavar="DIR", help="the run folder (default: runs/ and the recipe's name)")
    parser.add_argument("--fresh", action="store_true", help="first delete an earlier run in that folder")
    parser.add_argument(
        "--download",
        action="store_true",
        help="download the weights that torchvision or timm released, where the recipe's teachers name some "
        "that the cache lacks, and data sets hf:ORG/NAME (default: download nothing)",
    )


def recipe_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of commands that take a recipe."""
    parser.add_argument(
        "recipe", metavar="RECIPE", help="a built-in recipe (see `fastdd recipes`) or a .yaml file"
    )
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="KEY=VALUE",
        help="override a value of the recipe, for example method.steps=500",
    )
    parser.add_argument(
        "--add",
        action="append",
        default=[],
        metavar="NAME",
        help="add the terms of an addition, such as dire, to every method; where this changes a method's "
        "batch, a control with that batch and without the terms is added, too",
    )
    parser.add_argument(
        "--arms",
        action="extend",
        metavar="NAMES",
        type=_names,
        default=[],
        help="keep these arms of the recipe alone, for example sre2l,deda (default: all)",
    )
    parser.add_argument(
        "--students",
        action="extend",
        metavar="NAMES",
        type=_names,
        default=[],
        help="keep these of the recipe's further students alone, for example convnet (default: all)",
    )
    regimes_argument(parser)


def resolved_recipe(arguments: argparse.Namespace) -> Resolved:
    """The recipe that the arguments of ``recipe_arguments`` mean.

    Raises:
        InputError: the recipe, a key or a value is unknown, or a value names no device, network or weights.
    """
    from ..recipes.resolve import resolve
    from ..teachers.recipe_names import check_names

    found = resolve(
        arguments.recipe, overrides_of(arguments), arguments.add, arguments.arms, arguments.students
    )
    check_names(found.recipe)
    return found


def _names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise argparse.ArgumentTypeError(f"{text!r} has no name; give some, with commas between them")
    return names


def chosen_parts(arguments: argparse.Namespace) -> list[str]:
    """The words of a command that choose what of a recipe is kept, and what is added to it."""
    words = [text for name in arguments.add for text in ("--add", name)]
    for option, names in {"--arms": arguments.arms, "--students": arguments.students}.items():
        words += [option, ",".join(names)] if names else []
    return words


def _range(text: str) -> range:
    first, colon, stop = text.partition(":")
    if not (colon and first.isdecimal() and stop.isdecimal()):
        raise argparse.ArgumentTypeError(f"{text!r} must look like FIRST:STOP, for example 0:100")
    return range(int(first), int(stop))


def run_stage(arguments: argparse.Namespace) -> None:
    """Run a recipe up to the stage that the command names."""
    import fastdd

    until = "report" if arguments.command == "run" else arguments.command
    part = getattr(arguments, "part", None)
    result = fastdd.run(
        arguments.recipe,
        arguments.out,
        overrides_of(arguments),
        arguments.add,
        arms=arguments.arms,
        students=arguments.students,
        fresh=arguments.fresh,
        until=until,
        part=part,
        download=arguments.download,
        outlook=until == "report",
    )
    if not is_main():
        return
    if until in ("evaluate", "report"):
        print_result(result)
        _print_verdicts(result.metrics)
        say_page(result)
        refuse_diverged(result.metrics.diverged(), DIVERGED)
    else:
        if getattr(arguments, "committee", False):
            _print_teachers(result)
        print(f"{until} done: {result.path}{_next(arguments, result)}")
        if until == "squeeze" and result.folder.squeeze_page.is_file():
            print(f"open {result.folder.squeeze_page}")


def _print_verdicts(metrics: Metrics) -> None:
    """What each set is worth, where students learn in several regimes."""
    from ..report.verdicts import verdicts

    if len({each.regime for each in (metrics.protocol, *metrics.students.values())}) > 1:
        for sentence in verdicts(metrics):
            say(sentence)


def _print_teachers(result: RunResult) -> None:
    """The teachers that the run uses, a row each, and the overrides with which another recipe takes them."""
    from ..recipes.used_teachers import working_teachers
    from ..teachers.weights import read_weights

    recipe = result.recipe
    rows, overrides = new_table("teacher", "network", "accuracy %", "file"), []
    configs = recipe.all_teachers
    for name in working_teachers(recipe).values():
        key, path = teacher_section(name), result.folder.teacher(name)
        card = read_weights(f"{key}.weights", path).card
        accuracy = "-" if card is None or card.accuracy is None else f"{100 * card.accuracy:.1f}"
        rows.add_row(key, configs[name].network, accuracy, str(path))
        overrides.append(f"{key}.weights={path}")
    show_table(rows)
    say(f"another recipe takes them with {shlex.join(overrides)}")


def _next(arguments: argparse.Namespace, result: RunResult) -> str:
    """What is to be said of the part that was done, and the command of the next stage that has work."""
    from ..runs.pipeline import STAGES

    recipe, names = result.recipe, [stage.name for stage in STAGES]
    idle = set()
    if not any(arm.match is not None and arm.match.trajectory is not None for arm in recipe.arms.values()):
        idle.add("experts")
    if all(student.labels != "stored" for student in recipe.all_students.values()):
        idle.add("label")
    following = next(name for name in names[names.index(arguments.command) + 1 :] if name not in idle)
    out = [] if arguments.out is None else ["--out", arguments.out]
    command = shlex.join(
        ["fastdd", following, arguments.recipe, *overrides_of(arguments), *chosen_parts(arguments), *out]
    )
    part: range | None = getattr(arguments, "part", None)
    if part is None:
        return f"; next: {command}"
    return f" ({part.start}:{part.stop}); next, when all {PARTS[arguments.command]} are done: {command}"


def print_result(result: RunResult) -> None:
    """Print a finished run: a row an arm, the protocol, and what was left out."""

    metrics = result.metrics
    accuracy = metrics.teacher.accuracy
    reached = "" if accuracy is None else f" {100 * accuracy:.1f} %"
    say(
        f"\n{metrics.recipe}: {counted(metrics.ipc, 'image')} a class; teacher "
        f"{metrics.teacher.network}{reached}"
    )
    _print_arms(result)
    _say_certainty(result)
    _print_bytes(result)
    _print_label_rates(result)
    _print_robust(metrics)
    if metrics.published is not None:
        print_published(metrics)
    if metrics.protocol.seeds:
        say(evaluated_text(metrics.data))
    for name in result.recipe.shown_students:
        protocol = metrics.students.get(name, metrics.protocol)
        of = f" of {name}" if name else ""
        say(f"protocol{of} {protocol.hash}: {protocol.text}; {counted(protocol.seeds, 'seed')}")
    say_reduced(metrics)
    counts = [(arm.title, arm.seen) for arm in metrics.arms.values()]
    if unlike := [f"{title} {count}" for title, count in counts if count != metrics.ipc]:
        say(f"images a class that students see, where not {metrics.ipc}: {', '.join(unlike)}")
    if metrics.full_set_left_out is not None:
        say(f"the whole training set is left out: {metrics.full_set_left_out}")
    known = _seconds(result)
    others = [
        f"{name} {known[name]:.1f}" for name in ("squeeze", "bank", "experts", "report") if name in known
    ]
    if others:
        say(f"seconds: {', '.join(others)}")


def say_page(result: RunResult) -> None:
    """Say where the page of a run lies, as the last line, which is what one looks for."""
    page = result.folder.report
    say(
        f"open {page}"
        if page.is_file()
        else f"next, for the page: fastdd report {shlex.quote(str(result.path))}"
    )


def evaluated_text(data: DataResult) -> str:
    """Which images students are tested on, and what is to be known of the others."""
    if data.validation is None:
        return f"students are tested on the {data.test:,} test images"
    seen = f"; {' and '.join(data.seen_by)} may have been trained on them" if data.seen_by else ""
    if data.evaluated_on == "test":
        return (
            f"students are tested on the {data.test:,} test images; the {data.validation:,} validation "
            f"images are withheld from every set{seen}"
        )
    return (
        f"students are tested on the {data.validation:,} validation images{seen}; nothing has looked at the "
        f"{data.test:,} test images"
    )


def say_reduced(metrics: Metrics) -> None:
    """A line for each way in which arms have less than their methods declare."""
    by_text: dict[str, list[str]] = {}
    for arm in metrics.arms.values():
        if arm.reduced is not None:
            by_text.setdefault(arm.reduced, []).append(arm.title)
    for text, titles in by_text.items():
        say(f"reduced, no results of their methods: {', '.join(titles)}: {text}")


def print_published(metrics: Metrics) -> None:
    """Print a paper's numbers beside those of a run."""
    published = metrics.published
    assert published is not None  # the caller has looked
    if not published.rows:
        return
    rows = new_table("", "", "ours", published.item, "difference")
    for row in published.rows:
        ours = "-" if row.ours is None else with_deviation(row.ours, row.deviation, row.digits)
        paper = with_deviation(row.paper, row.paper_deviation, row.digits)
        difference = "-" if row.difference is None else f"{row.difference:+z.{row.digits}f}"
        rows.add_row(metrics.arms[row.arm].marked_title, row.quantity, ours, paper, difference)
    show_table(rows)
    if published.differs:
        say(f"differs from the paper: {published.differs}")


def _seconds(result: RunResult) -> dict[str, float]:
    return {name: stage.seconds for name, stage in result.manifest.stages.items()}


def _print_arms(result: RunResult) -> None:
    """A row for each arm and one for the whole training set; many kinds of students have their own table."""

    metrics, seconds = result.metrics, _seconds(result)
    accuracies: dict[str, dict[str, str]] = {}
    if len(result.recipe.shown_students) > MOST_COLUMNS:
        _print_kinds(result)
    else:
        accuracies = _accuracies(result)
    others = FEATURES if any(arm.features is not None for arm in metrics.arms.values()) else ()
    measured = (f"coverage (k={metrics.k})", "Vendi", "cosine", *others)
    names = ("", *accuracies, *measured, "recover s", "students s")
    rows = new_table(*names)
    for name, arm in metrics.arms.items():
        rows.add_row(
            arm.marked_title,
            *(column.get(name, "-") for column in accuracies.values()),
            f"{arm.coverage:.3f}",
            f"{arm.vendi:.2f}",
            f"{arm.cosine:z.3f}",
            *_features(arm),
            _shown(seconds.get(f"recover {name}")),
            _training_seconds(result, name),
        )
    if (full := metrics.full_set) is not None:
        reached = (column[FULL] for column in accuracies.values())
        rows.add_row(full.title, *reached, *("-" * (len(measured) + 1)), _training_seconds(result, FULL))
    show_table(rows)


def _print_kinds(result: RunResult) -> None:
    """For each kind of students, a row for each arm and one for the whole training set."""

    metrics = result.metrics
    titles = {name: arm.marked_title for name, arm in metrics.arms.items()}
    if metrics.full_set is not None:
        titles[FULL] = metrics.full_set.title
    rows = new_table("students", "set", "last %", "reads")
    for student, kind in student_titles(result.recipe.shown_students).items():
        for name, cell in _with_differences(metrics.last(student)).items():
            read = _read_text(metrics.arms[name], student) if name in metrics.arms else "-"
            rows.add_row(kind if name == CONTROL else "", titles[name], cell, read)
    show_table(rows)


def _read_text(arm: ArmResult, student: str) -> str:
    """What a kind of students reads of an arm, such as ``24.1 kB, labels``."""

    found = arm.kinds.get(student)
    each = None if found is None else found.shipped
    if each is None:
        return "-"
    return f"{bytes_text(each.total)}{', labels' * (each.labels > 0)}{', teacher' * (each.teacher > 0)}"


def _features(arm: ArmResult) -> list[str]:
    """Diversity in other features than the teacher's; no cells where it was not measured."""
    found = arm.features
    return [] if found is None else [f"{found.coverage:.3f}", f"{found.vendi:.2f}", f"{found.cosine:z.3f}"]


def _training_seconds(result: RunResult, arm: str) -> str:
    """Seconds of the training of an arm's students, or of those of the whole training set, in all."""
    from ..run_folder.results import stage_of

    stages = [stage_of("students", student, arm) for student in ("", *result.metrics.students)]
    seconds = _seconds(result)
    known = [seconds[stage] for stage in stages if stage in seconds]
    return _shown(sum(known) if known else None)


def _shown(seconds: float | None) -> str:
    """Seconds as a cell of the table; a manifest that was deleted and written again knows none."""
    return "-" if seconds is None else f"{seconds:.1f}"


def _accuracies(result: RunResult) -> dict[str, dict[str, str]]:
    """The columns of accuracies, whose cells are by arm: of one kind of students after the last step and,
    where that is told, the best; of several kinds a column each."""
    from ..run_folder.comparison import best_title

    metrics, students = result.metrics, result.recipe.shown_students
    if len(students) != 1:
        return {
            f"{student or 'student'} last %\n({title})": _with_differences(metrics.last(student))
            for student, title in student_titles(students).items()
        }
    columns = {"last %": _with_differences(metrics.last())}
    best = best_title(metrics.data.evaluated_on, result.recipe.student.reported)
    if best is not None:
        columns[f"{best} %"] = {name: spread(each.best) for name, each in metrics.students_of().items()}
    return columns


def _with_differences(last: Mapping[str, Fractions]) -> dict[str, str]:
    """Accuracies by arm, and in parentheses how far they are above the control's."""
    from ..run_folder.comparison import difference, difference_text

    cells = {}
    for name, accuracies in last.items():
        found = None if name == CONTROL else difference(accuracies, last[CONTROL])
        cells[name] = spread(accuracies) + ("" if found is None else f" ({difference_text(found)})")
    return cells


def _print_bytes(result: RunResult) -> None:
    """A row for each arm: bytes that each kind of students reads, and what the set took to make."""

    metrics, stages = result.metrics, result.manifest.stages
    kinds = list(result.recipe.shown_students)
    if len(kinds) > MOST_COLUMNS:
        kinds = []  # their bytes stand beside their accuracies
    headings = [f"{student or 'student'} reads" for student in kinds]
    rows = new_table("", "images seen", "images", *headings, "iterations", "GMAC an image")
    for name, arm in metrics.arms.items():
        if arm.shipped is None:  # measured by an earlier version
            return
        texts = [_read_text(arm, student) for student in kinds]
        work = stages.get(f"recover {name}")
        made = "-" if work is None or name == CONTROL else f"{work.images:,}"
        macs = work_text(None if name == CONTROL else arm.multiply_adds)
        rows.add_row(arm.title, str(arm.seen), bytes_text(arm.shipped.images), *texts, made, macs)
    show_table(rows)


def _print_robust(metrics: Metrics) -> None:
    """DD-Ranking's scores of each set and kind of students that tell them; nothing where none do."""
    from ..report.verdicts import robust_rows

    if not (found := robust_rows(metrics)):
        return
    rows = new_table("", "students", "LRS", "ARS")
    for row in found:
        rows.add_row(*row)
    show_table(rows)
    say(ROBUST)


def _print_label_rates(result: RunResult) -> None:
    """A row for each way in which labels are stored, where there are several: bytes and accuracies."""
    from ..config.naming import label_words

    metrics, recipe = result.metrics, result.recipe
    if not recipe.label_rates:
        return
    headings = [f"{arm.title} {what}" for arm in metrics.arms.values() for what in ("labels", "last %")]
    rows = new_table("", *headings, "protocol")
    for name, labels in recipe.label_rates.items():
        cells = []
        for arm in metrics.arms.values():
            found = arm.students.get(name)
            stored = None if found is None else found.shipped
            cells.append("-" if stored is None else bytes_text(stored.labels))
            cells.append("-" if found is None else spread(found.last))
        words = label_words(labels, recipe.students[name])
        rows.add_row(f"{name}: {words}", *cells, metrics.students[name].hash)
    show_table(rows)


def _say_certainty(result: RunResult) -> None:
    """What the differences in the table mean, and how many seeds intervals as narrow as wanted take."""
    from ..run_folder.comparison import more_seeds

    known, wanted = result.metrics.differences(), result.recipe.metrics.interval
    if not known:
        return
    if all(each.interval is None for each in known):
        say("in parentheses: points above random real images; one seed says nothing of how certain they are")
        return
    level = "; ≈: not distinguishable" if any(not each.distinguishable for each in known) else ""
    say(f"in parentheses: points above random real images of the same seeds ± half the 95 % interval{level}")
    if (seeds := more_seeds(known, wanted / 100)) is not None:
        say(f"intervals of ± {wanted:g} points take about {seeds} seeds (student.seeds={seeds})")


def add_status(commands: Commands) -> None:
    status = commands.add_parser(
        "status",
        help="say which stages of a run are done, and how far the others are",
        description="Say which stages of a run are done, and how far the others are. It reads the run's "
        "folder alone, so the run may be at work, on another machine too.",
    )
    status.add_argument("folder", metavar="DIR", help="the run folder")
    status.add_argument(
        "--watch",
        action="store_true",
        help="follow a run that another process does, its speed and its last losses, until it ends",
    )
    status.set_defaults(run=_status)


def _status(arguments: argparse.Namespace) -> None:
    from ..runs.status import status, watch

    folder = Path(arguments.folder)
    if arguments.watch:
        follow(watch(folder), untold={"last news"})
    print("\n".join(map(str, status(folder))))

"""What a run says of each of its sets, in a sentence: whether it is worth more than random real images, with
which students, and how certain that is."""

from __future__ import annotations

import statistics
from collections.abc import Mapping

from pydantic import JsonValue, TypeAdapter
from pydantic_core import to_jsonable_python

from ..config import CONTROL, Recipe
from ..config.naming import short_keys, value_text
from ..config.regimes import REGIMES, in_regime, regime_of
from ..recipes.students import resolve_student
from ..run_folder import ArmResult, Metrics, RunFolder, read
from ..run_folder.accuracies import Fractions, diverged_text, of_all
from ..run_folder.comparison import Difference, difference, difference_text
from ..run_folder.results import ProtocolResult, StudentAccuracies, SweepResults
from ..run_folder.shipped import bytes_text
from ..runtime.console import counted


def verdicts(metrics: Metrics) -> list[str]:
    """A sentence for each set beside the control, then one on what the numbers mean."""
    if not metrics.protocol.seeds:
        return _measured(metrics)
    kinds = {"": metrics.protocol, **metrics.students}
    found = [_verdict(metrics, arm, kinds) for arm, result in metrics.arms.items() if arm != CONTROL]
    seeds = max(each.seeds for each in kinds.values())
    if seeds == 1:
        return [*found, "One seed says nothing of how certain a difference is; give several with --seeds."]
    return [
        *found,
        "± is half the 95 % interval of the difference from random real images under the same protocol, "
        f"seed by seed over {counted(seeds, 'seed')}; one in twenty such intervals misses by chance. Bytes "
        "are those that students read: images, stored labels, and a teacher where it labels online.",
    ]


LEFT_OPEN = {"protocol", "network", "seeds", "precision", "compile", "augment", "keep", "checkpoint_every"}
"""values of a protocol whose choice needs no telling: tables tell them, or they change no accuracy"""


def choices(recipe: Recipe) -> list[str]:
    """What whoever judged has chosen, where another choice might say something else of the sets.

    Args:
        recipe: the recipe of a judgement.
    """
    kinds, found = [recipe.student, *recipe.students.values()], list[str]()
    regimes = {regime_of(each) for each in kinds}
    if left := [regime for regime in REGIMES if regime not in regimes]:
        found.append(f"Not judged with {' and '.join(left)} labels, where the sets may be worth less.")
    own = recipe.student
    as_published = in_regime(resolve_student({}, own.protocol), regime_of(own))
    changed = [
        f"{key} {value_text(plain(getattr(own, key)))} instead of {value_text(plain(value))}"
        for key, value in as_published
        if key not in LEFT_OPEN and getattr(own, key) != value
    ]
    if changed:
        found.append(f"The protocol is {own.protocol}, with {', '.join(changed)}.")
    labelled = [
        method.title or name
        for name, method in recipe.arms.items()
        if method.given is not None and (method.given.labels or method.given.views is not None)
    ]
    if labelled and "fixed" in regimes:
        found.append(
            f"The fixed labels of {', '.join(labelled)} came with the set, and it is not known whose they "
            "are; random real images have those of the teacher here."
        )
    found.append(
        f"The control is one draw of random real images, of seed {recipe.seed}, and no interval tells what "
        "another draw would do. Whether a set holds test images is told by `fastdd check`."
    )
    return found


def plain(value: object) -> JsonValue:
    """A value of a protocol as JSON has it."""
    return TypeAdapter(JsonValue).validate_python(to_jsonable_python(value))


def _verdict(metrics: Metrics, arm: str, kinds: Mapping[str, ProtocolResult]) -> str:
    result = metrics.arms[arm]
    students: dict[str, ArmResult | StudentAccuracies] = {"": result, **result.students}
    groups: dict[str, list[str]] = {}
    for name, each in students.items():
        text, found = _kind(name, kinds), each.above_control
        if found is not None:
            text = f"{text} {difference_text(found).removeprefix('≈ ')} points"
        if each.shipped is not None:
            text = f"{text} at {bytes_text(each.shipped.total)}"
        groups.setdefault(_judged(found), []).append(text)
    parts = [f"{judged} with {', '.join(groups[judged])}" for judged in JUDGED if judged in groups]
    return f"{result.title} ({_size(metrics, result)}) beside as many random real images: {'; '.join(parts)}."


def _measured(metrics: Metrics) -> list[str]:
    """What is known of each set without students, beside the control."""
    control = metrics.arms[CONTROL]
    found = []
    for name, arm in metrics.arms.items():
        if name == CONTROL:
            continue
        numbers = [
            f"coverage {arm.coverage:.3f} ({control.coverage:.3f})",
            f"Vendi score {arm.vendi:.2f} ({control.vendi:.2f})",
            f"cosine {arm.cosine:.3f} ({control.cosine:.3f})",
        ]
        if arm.shipped is not None and control.shipped is not None:
            sizes = (bytes_text(each.images) for each in (arm.shipped, control.shipped))
            numbers.append("images of {} ({})".format(*sizes))
        found.append(f"{arm.title} ({_size(metrics, arm)}): {', '.join(numbers)}.")
    return [
        *found,
        "In brackets: as many random real images. No students were trained, so nothing is known of what "
        "the sets are worth.",
    ]


def _size(metrics: Metrics, arm: ArmResult) -> str:
    """How many images of a class a set has, and how many students see where these are more."""
    size = f"{counted(metrics.ipc, 'image')} a class"
    return size if arm.seen == metrics.ipc else f"{size} stored and {arm.seen} seen"


def robust_rows(metrics: Metrics) -> list[tuple[str, str, str, str]]:
    """DD-Ranking's scores: set, kind of students, label- and augmentation-robust score; empty where no kinds
    of students tell them."""
    kinds, found = {"": metrics.protocol, **metrics.students}, list[tuple[str, str, str, str]]()
    for arm in metrics.arms.values():
        students: dict[str, ArmResult | StudentAccuracies] = {"": arm, **arm.students}
        for name, each in students.items():
            if (scores := each.robust) is not None:
                told = ("–" if s is None else f"{s:.3f}" for s in (scores.label, scores.augmentation))
                label, augmentation = told
                found.append((arm.title, _kind(name, kinds), label, augmentation))
    return found


def winner_sentences(results: SweepResults) -> list[str]:
    """What a sweep with validation images says of each winner: its accuracy on the test images, beside the
    control, with the certainty of the difference."""
    names, found = short_keys(results.keys), list[str]()
    for winner in results.winners:
        at = [f"{name} = {value_text(winner.at[key])}" for key, name in names.items() if key in winner.at]
        difference_from = difference(winner.last, winner.control)
        points = "" if difference_from is None else f" ({difference_text(difference_from)} points)"
        found.append(
            f"On the test images, read once: the best on validation at {counted(winner.ipc, 'image')} a "
            f"class, {', '.join([winner.title, *at])}, {mean_text(winner.last)} %; random real images "
            f"{mean_text(winner.control)} %{points}."
        )
    return found


def winner_sentences_of(folder: RunFolder) -> list[str]:
    """The sentences of the sweep whose results lie in a folder; none where none do."""
    return winner_sentences(read(folder.sweep, SweepResults)) if folder.sweep.is_file() else []


def mean_text(accuracies: Fractions) -> str:
    """Mean and sample standard deviation over seeds in percent, or how many diverged."""
    fractions = of_all(accuracies)
    if fractions is None:
        return diverged_text(accuracies)
    text = f"{100 * statistics.fmean(fractions):.1f}"
    return text if len(fractions) < 2 else f"{text} ± {100 * statistics.stdev(fractions):.1f}"


JUDGED = (
    "worth more",
    "not distinguishable",
    "worth less",
    "a difference of one seed",
    "unknown, since students diverged,",
)
"""what is said of a set with students of a kind, in the order in which it is said"""


def _judged(found: Difference | None) -> str:
    more, same, less, one_seed, unknown = JUDGED
    if found is None:
        return unknown
    if found.interval is None:
        return one_seed
    if not found.distinguishable:
        return same
    return more if found.mean > 0 else less


def _kind(name: str, kinds: Mapping[str, ProtocolResult]) -> str:
    """A kind of students in a word or two, such as ``resnet20 hard``; its name where others are alike."""
    texts = {key: f"{each.network} {each.regime}" for key, each in kinds.items() if each.network}
    text = texts.get(name)
    return text if text and list(texts.values()).count(text) == 1 else name or "student"

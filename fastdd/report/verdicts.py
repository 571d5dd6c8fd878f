"""What a run says of each of its sets, in a sentence: whether it is worth more than random real images, with
which students, and how certain that is; of a judgement also what was chosen where another choice might say
something else, and what cannot be known."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import JsonValue, TypeAdapter
from pydantic_core import to_jsonable_python

from ..config import CONTROL, Recipe
from ..config.naming import short_keys, value_text
from ..config.student import REGIMES, in_regime, regime_of
from ..data.published_sizes import published_size
from ..recipes.students import resolve_student
from ..run_folder import ArmResult, Metrics, RunFolder, read
from ..run_folder.comparison import Difference, difference, difference_text, mean_text
from ..run_folder.results import MAY_ESCAPE, ProtocolResult, SweepResults
from ..runtime.console import bytes_text, counted


def verdicts(metrics: Metrics) -> list[str]:
    """A sentence for each set beside the control, then what was looked for in the sets, and what the numbers
    mean."""
    sets = [name for name in metrics.arms if name != CONTROL]
    if not metrics.protocol.seeds:
        return [*(_measured(metrics, name) for name in sets), *_looked_for(metrics), UNTRAINED]
    kinds = metrics.protocols
    found = [*(_verdict(metrics, name, kinds) for name in sets), *_looked_for(metrics)]
    seeds = max(each.seeds for each in kinds.values())
    if seeds == 1:
        return [*found, "One seed says nothing of how certain a difference is; give several with --seeds."]
    told = len(metrics.differences())
    return [
        *found,
        "± is half the 95 % interval of the difference from random real images under the same protocol, seed "
        f"by seed over {counted(seeds, 'seed')}. One in twenty such intervals misses by chance, and "
        f"{told} {'is' if told == 1 else 'are'} told here. Bytes are those that students read: images, "
        "stored labels, and a teacher where it labels online.",
    ]


def _verdict(metrics: Metrics, arm: str, kinds: Mapping[str, ProtocolResult]) -> str:
    """What a set is worth. A set that holds test images is worth nothing that its accuracies tell."""
    result = metrics.arms[arm]
    if leaks := _texts(result, "leak"):
        return (
            f"{_named(metrics, result)} holds images that students are tested on, so its accuracies say "
            f"nothing of what it is worth: {'; '.join(leaks)}.{_faults(result)}"
        )
    groups: dict[str, list[str]] = {}
    for name, each in result.kinds.items():
        text, found = _kind(name, kinds), each.above_control
        if found is not None:
            text = f"{text} {difference_text(found).removeprefix('≈ ')} points"
        if each.shipped is not None:
            text = f"{text} at {bytes_text(each.shipped.total)}"
        groups.setdefault(_judged(found), []).append(text)
    parts = [f"{judged} with {', '.join(groups[judged])}" for judged in JUDGED if judged in groups]
    beside = f"{_named(metrics, result)} beside {_control_text(metrics, result)}"
    return f"{beside}: {'; '.join(parts)}.{_faults(result)}"


def _measured(metrics: Metrics, arm: str) -> str:
    """What is known of a set without students, beside the control."""
    control, result = metrics.arms[CONTROL], metrics.arms[arm]
    numbers = [
        f"coverage {result.coverage:.3f} ({control.coverage:.3f})",
        f"Vendi score {result.vendi:.2f} ({control.vendi:.2f})",
        f"cosine {result.cosine:z.3f} ({control.cosine:z.3f})",
    ]
    if result.shipped is not None and control.shipped is not None:
        sizes = [bytes_text(each.images) for each in (result.shipped, control.shipped)]
        numbers.append(f"images of {sizes[0]} ({sizes[1]})")
    leaks = "".join(f" It holds test images: {text}." for text in _texts(result, "leak"))
    return f"{_named(metrics, result)}: {', '.join(numbers)}.{leaks}{_faults(result)}"


def _named(metrics: Metrics, result: ArmResult) -> str:
    """A set, and how many images of a class it has and students see, where these are more."""
    size = f"{counted(metrics.ipc, 'image')} a class"
    if result.seen != metrics.ipc:
        size = f"{size} stored and {result.seen} seen"
    return f"{result.title} ({size})"


def _control_text(metrics: Metrics, result: ArmResult) -> str:
    """The control of a set, whose students see fewer images where the set's stored ones hold several."""
    if result.seen == metrics.ipc:
        return "as many random real images"
    times = result.seen / metrics.ipc
    return f"{counted(metrics.ipc, 'random real image')} a class, where students see {times:g} times fewer"


def _texts(result: ArmResult, kind: str) -> list[str]:
    return [each.text for each in result.findings or () if each.kind == kind]


def _faults(result: ArmResult) -> str:
    """What is wrong with a set, as further sentences; empty where nothing is."""
    return "".join(f" At fault: {text}." for text in _texts(result, "fault"))


def _looked_for(metrics: Metrics) -> list[str]:
    """What was looked for in the sets and the control, and what else was found; empty where nothing was
    looked for."""
    if not any(result.findings is not None for result in metrics.arms.values()):
        return []
    notes = [f"{each.title}: {text}." for each in metrics.arms.values() for text in _texts(each, "note")]
    if leaks := _texts(metrics.arms[CONTROL], "leak"):
        notes.append(f"The real training images themselves hold test images: of the control {leaks[0]}.")
    wrong = any(each.kind != "note" for result in metrics.arms.values() for each in result.findings or ())
    nothing = "" if wrong or notes else " None were found."
    return [
        "Looked for in every set: copies of held-out images, saved anew or mirrored, their crops and "
        "mosaics, images that lie too near to them in the teacher's embeddings, repeated and empty images, "
        f"unlike classes and claims that do not hold.{nothing} {MAY_ESCAPE[0].upper()}{MAY_ESCAPE[1:]}.",
        *notes,
    ]


def robust_rows(metrics: Metrics) -> list[tuple[str, str, str, str]]:
    """DD-Ranking's scores: set, kind of students, label- and augmentation-robust score; empty where no kinds
    of students tell them."""
    kinds, found = metrics.protocols, list[tuple[str, str, str, str]]()
    for arm in metrics.arms.values():
        for name, each in arm.kinds.items():
            if (scores := each.robust) is not None:
                told = ("–" if s is None else f"{s:z.3f}" for s in (scores.label, scores.augmentation))
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


UNTRAINED = (
    "In brackets: as many random real images. No students were trained, so nothing is known of what the sets "
    "are worth."
)
"""what is said of sets that were measured without students"""
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


LEFT_OPEN = {"protocol", "network", "seeds", "precision", "compile", "augment", "keep", "checkpoint_every"}
"""values of a protocol whose choice needs no telling: tables tell them, or they change no accuracy"""
USUAL = "house"
"""protocol that is judged under where nothing is said"""
UNKNOWN = (
    "Not known here: whether the real images are the published ones, whether other seeds, students, "
    "protocols or sets were tried before and left out, whether files were edited with care, and what the "
    "makers of a set looked at. Whoever doubts judges the set again."
)
"""what no page of a judgement can tell"""


def choices(recipe: Recipe, metrics: Metrics) -> list[str]:
    """What whoever judged has chosen, a sentence each, and at last what is not known."""
    return [*_data(metrics), *_students(recipe), *_control(recipe), UNKNOWN]


def _data(metrics: Metrics) -> list[str]:
    """How the real images differ from the data set that they seem to be of."""
    data = metrics.data
    known = published_size(data.root, metrics.classes)
    if known is None:
        return []
    name, size = known
    train = data.train + (data.validation or 0)
    if (train, data.test) == (size.train, size.test):
        return []
    return [
        f"The real images are {train:,} for training and {data.test:,} for tests, while {name} has "
        f"{size.train:,} and {size.test:,}: controls drawn from a part may be weaker, and accuracies do not "
        "compare with those of the whole."
    ]


def _students(recipe: Recipe) -> list[str]:
    """What was chosen of students and their labels; nothing where none are trained."""
    if not recipe.metrics.students:
        return []
    kinds, found = list(recipe.all_students.values()), list[str]()
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
    elif own.protocol != USUAL:
        found.append(f"The protocol {own.protocol} was chosen in the place of {USUAL}.")
    networks = list(dict.fromkeys(each.network for each in kinds))
    if foreign := [name for name in networks if ":" in name]:
        found.append(
            f"The code of {', '.join(foreign)} is not fastdd's, and whether those students begin untrained "
            "is not known."
        )
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
    return found


def _control(recipe: Recipe) -> list[str]:
    """What is to be known of the control and its seed."""
    chosen = ", which was chosen in the place of 0 (others may have been tried)," if recipe.seed else ","
    return [
        f"The control is one draw of random real images, of seed {recipe.seed}{chosen} and no interval tells "
        "what another draw would do."
    ]


def plain(value: object) -> JsonValue:
    """A value of a protocol as JSON has it."""
    return TypeAdapter(JsonValue).validate_python(to_jsonable_python(value))

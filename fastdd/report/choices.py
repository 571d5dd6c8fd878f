"""What whoever judged has chosen, where another choice might say something else, and what cannot be known."""

from __future__ import annotations

from pydantic import JsonValue, TypeAdapter
from pydantic_core import to_jsonable_python

from ..config import Recipe
from ..config.naming import value_text
from ..config.regimes import REGIMES, in_regime, regime_of
from ..data.published_sizes import published_size
from ..recipes.students import resolve_student
from ..run_folder import Metrics

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

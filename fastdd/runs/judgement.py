"""What a judgement is asked for, and what its folder holds already.

Sets that are judged later into the same folder become further arms of the recipe that is there; what is not
said of data, teacher and students is as that recipe has it (judgement_recipes.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..config import Method, Recipe
from ..config.regimes import Regime
from ..run_folder import RunFolder, read_recipe
from .judged_sets import JudgedSet


@dataclass(frozen=True)
class JudgeRequest:
    """Which sets are judged, and how.

    Attributes:
        sets: folders; of a run all arms, or RUN:ARM.
        data: root of the real images; None: those of the judgement in the folder, else of the first run among
            the sets.
        teacher: weights; None: likewise, and where there is no run among the sets one is trained on the real
            images.
        teacher_network: the teacher's network, where its card names a function or there is none; None: the
            card's.
        ipc: stored images of each class that are judged, the first ones of each set; None: all.
        labels: labels of the views of sets, each ``SET=FOLDER``, or ``FOLDER`` of the only set; of runs those
            that they stored are found.
        plain: with soft labels also train students without augmentation, for the augmentation-robust score.
        regimes: the regimes; empty: those of the judgement in the folder, else all.
        students: names of networks (models/student_names.py); empty: likewise, else the protocol's network.
        protocol: name of a preset; None: the house's.
        overrides: ``key=value`` texts of the protocol.
        teacher_overrides: ``teacher.key=value`` texts: how the teacher is trained, or mean and std of weights
            without a card.
        seeds: students of each kind; None: the protocol's number.
        seed: seed of the control and the students; None: that of the judgement in the folder, else 0.
        resize: shorter side in pixels of the real images before their center is cut out; None: the run's.
        full_set: whether students learn from the whole training set; auto: where its images fit into memory;
            None: as in the judgement in the folder, else auto.
        trains: false: no students are trained, and the sets are measured and checked alone; None: as in the
            judgement in the folder, else true.
        device: auto, cpu or cuda.
    """

    sets: Sequence[str]
    data: str | None = None
    teacher: Path | None = None
    teacher_network: str | None = None
    ipc: int | None = None
    labels: Sequence[str] = ()
    plain: bool = False
    regimes: Sequence[Regime] = ()
    students: Sequence[str] = ()
    protocol: str | None = None
    overrides: Sequence[str] = ()
    teacher_overrides: Sequence[str] = ()
    seeds: int | None = None
    seed: int | None = None
    resize: int | None = None
    full_set: bool | Literal["auto"] | None = None
    trains: bool | None = None
    device: str = "auto"


@dataclass(frozen=True)
class Judgement:
    """What a folder holds of an earlier judgement.

    Attributes:
        recipes: the recipe of each number of images a class, by that number; empty: there is no judgement.
        is_run: the folder itself is the run folder, of the only number of images a class.
    """

    out: Path
    recipes: Mapping[int, Recipe]
    is_run: bool

    @property
    def first(self) -> Recipe | None:
        """A recipe that says how sets are judged here; None: there is none."""
        return next(iter(self.recipes.values()), None)

    def folder(self, ipc: int, *, several: bool) -> Path:
        """The run folder of the sets with a number of images a class."""
        return self.out / f"ipc-{ipc}" if several else self.out

    def arms(self, ipc: int) -> dict[str, Method]:
        """The sets with a number of images a class, as arms by name."""
        return dict(self.recipes[ipc].arms) if ipc in self.recipes else {}

    def arm_of(self, ipc: int, each: JudgedSet) -> str | None:
        """The arm that a set already is; None: it is none yet."""
        for name, method in self.arms(ipc).items():
            given = method.given
            if given is not None and is_same_place(given.path, each.path) and given.arm == each.arm:
                return name
        return None


def earlier_judgement(out: Path) -> Judgement:
    """What a folder holds of an earlier judgement; none where it holds something else.

    Raises:
        InputError: a recipe there is damaged or was edited.
    """
    is_run = RunFolder(out).recipe.is_file()
    folders = [RunFolder(out)] if is_run else [RunFolder(each) for each in sorted(out.glob("ipc-*"))]
    found = [read_recipe(folder) for folder in folders if folder.recipe.is_file() and folder.is_run()]
    return Judgement(out, {each.ipc: each for each in found if each.is_judgement}, is_run)


def is_same_place(one: str, other: str) -> bool:
    """Whether two paths lead to the same place."""
    return Path(one).resolve() == Path(other).resolve()

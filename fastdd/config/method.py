"""What recover optimizes: initial images, batches, augmentation, terms and schedule."""

from __future__ import annotations

from itertools import accumulate, pairwise
from typing import Annotated, Literal

from pydantic import Field, model_validator

from .base import All, BelowOne, Config, Count, Natural, NotNegative, Positive, Side, Text
from .matching import Match
from .method_sections import (
    RDED,
    Augment,
    BatchSize,
    EarlyLate,
    Formation,
    Given,
    Offset,
    Perturb,
    Residual,
    Save,
)
from .terms import Terms

Init = Literal[
    "noise",
    "real",
    "random",
    "first",
    "confident",
    "medium",
    "kmeans",
    "herding",
    "kcenter",
    "moderate",
    "grand",
    "el2n",
    "forgetting",
    "aum",
    "ccs",
    "rded",
]
"""what images start from; all but noise and real are chosen by recover/init/"""
BY_EMBEDDING = ("confident", "medium", "kmeans", "herding", "kcenter", "moderate", "grand")
"""rules that look at the embeddings of all images of a class"""
BY_SCORE = ("el2n", "forgetting", "aum", "ccs")
"""rules that look at how hard each image was to learn (teachers/image_scores.py)"""


class Method(Config):
    """What recover optimizes: initial images, batches, augmentation, terms and schedule."""

    title: str = ""
    """name in figures; empty: the arm's name"""
    given: Given | None = None
    """a finished set that is taken in place of one that is made; null: images are made"""
    init: Init = "noise"
    """what images start from. noise: N(0, 1); real: a random choice of real images; confident, medium,
    kmeans, herding, kcenter, moderate, grand, el2n, forgetting, aum and ccs: real images chosen by
    recover/init/selection.py, the last four by scores of a training (``fastdd score``); rded: tiles of crops
    of real images; random, first: a seeded choice of ``candidates``, or the first of them by name. PATH:
    short for init random with candidates PATH"""
    candidates: Text | None = None
    """folder, archive or Parquet file of labelled images, such as a generator's, from which ``init`` chooses
    in place of the real ones; null: there are none"""
    init_first: Count | All = "all"
    """images of each class, the first ones of the data set, from which a selection such as confident chooses
    (CIM); all: all of them"""
    rded: RDED = RDED()
    batch: BatchSize = BatchSize()
    augment: Augment = Augment()
    terms: Terms = Field(default_factory=Terms)
    """what is minimized through the teachers"""
    match: Match | None = None
    """what is matched between synthetic and real images beside the terms; null: nothing"""
    perturb: Perturb | None = None
    """null: the teacher's weights stay as they are"""
    ensemble: Count | Literal["first", "all", "round_robin"] = "first"
    """teachers whose mean loss a step minimizes. first: the run's own teacher; all: all of them; round_robin:
    one a step, in turn; a number: so many, by ``ensemble_per``"""
    ensemble_per: Literal["step", "slot"] = "step"
    """what so many teachers are chosen for, where ``ensemble`` is a number. step: they are drawn anew for
    each step; slot: a batch's slots keep theirs, the first slots the first of all choices of so many
    teachers, the next slots the next, and so on in a circle"""
    ensemble_weights: Literal["equal", "accuracy"] | tuple[NotNegative, ...] = "equal"
    """weights of the losses of a step's teachers. equal: their mean; accuracy: the softmax of the teachers'
    test accuracies in percent over 5; numbers: the same of these, one for each teacher of the method"""
    committee: tuple[str, ...] | None = None
    """names of the recipe's further teachers that the method uses beside the run's own; null: all of them"""
    early_late: EarlyLate | None = None
    """null: all slots are optimized from the first step"""
    offset: Offset | None = None
    """null: the steps optimize the images themselves"""
    formation: Formation | None = None
    """null: a stored image holds one image"""
    residual: Residual | None = None
    """null: images are never blended with real ones"""
    sizes: Annotated[tuple[Side, ...], Field(min_length=1)] | None = None
    """side of the images in pixels in each stage, in the last that of the data; null: always that of the
    data"""
    budgets: tuple[Count, ...] | Literal["equal"] = "equal"
    """lengths of the stages in proportion to each other, such as [1, 1, 2]; equal: all have as many steps"""
    antialias: bool = False
    """true: images that ``sizes`` makes smaller are smoothed before; false: they are not, as in the released
    code"""
    save: Save = Save()
    steps: Natural = 1000
    """steps on the images; 0: the initial images are kept"""
    optimizer: Literal["adam", "sgd"] = "adam"
    """optimizer of the images"""
    lr: Positive = 0.25
    """learning rate of the first step, for normalized images"""
    schedule: Literal["cosine", "constant"] = "cosine"
    """cosine: the learning rate falls to 0 on half a cosine; constant: it stays"""
    betas: tuple[BelowOne, BelowOne] = (0.5, 0.9)
    """decay rates of the first and second moment of Adam"""
    momentum: BelowOne = 0.5
    """momentum of SGD"""
    decay: NotNegative = 0.0
    """pull towards the images' start: before each step they lose this factor, times the learning rate, of
    what they have moved (CIM: AdamW's weight decay of what is added to the start); 0: there is none"""
    clip: bool = True
    """true: images are clipped to valid colors after each step; false: at the end alone, as they are saved"""

    @model_validator(mode="before")
    @classmethod
    def _a_path_means_candidates(cls, values: object) -> object:
        """Take ``init: PATH`` for a random choice of the images there."""
        init = values.get("init") if isinstance(values, dict) else None
        if not isinstance(values, dict) or not isinstance(init, str) or not {"/", "\\", "."} & set(init):
            return values
        if values.get("candidates") is not None:
            raise ValueError(
                f"init {init} and candidates {values['candidates']} both name images; set init to the rule "
                "by which they are chosen, such as random or kmeans"
            )
        return {**values, "init": "random", "candidates": init}

    @property
    def stages(self) -> int:
        """The number of stages that the steps are divided into, by ``residual`` or ``sizes``; else 1."""
        if self.residual is not None:
            return self.residual.stages
        return 1 if self.sizes is None else len(self.sizes)

    @property
    def changes_size(self) -> bool:
        """Whether the images of two stages differ in size."""
        return self.sizes is not None and len(set(self.sizes)) > 1

    @property
    def teacher_terms(self) -> Terms:
        """The terms that go through teachers: all, unless they go through the matching's own network."""
        by_network = self.match is not None and self.match.added.through == "network"
        return Terms.none() if by_network else self.terms

    @model_validator(mode="after")
    def _something_to_optimize(self) -> Method:
        if self.steps and not self.terms and self.match is None:
            raise ValueError(
                "terms are all null: give at least one, or set steps to 0 to keep the initial images"
            )
        for key, what in (("pad", "padding"), ("cutout", "cutout")):
            if self.perturb is not None and (given := getattr(self.augment, key)):
                raise ValueError(
                    f"perturb climbs on images without {what}, got augment.{key} {given}; set it to 0"
                )
        return self

    @model_validator(mode="after")
    def _candidates_have_a_rule(self) -> Method:
        if self.candidates is None and self.init in ("random", "first"):
            raise ValueError(
                f"init {self.init} chooses among candidates, of which there are none; give candidates, or "
                "set init to real"
            )
        if self.candidates is not None and self.init in BY_SCORE:
            raise ValueError(
                f"init {self.init} ranks by scores of a training, which candidates have not; set init to "
                "kmeans or another rule"
            )
        if self.candidates is not None and self.init in ("noise", "real"):
            raise ValueError(
                f"candidates are images to start from, but init is {self.init}; set init to random, first, "
                "kmeans or another rule"
            )
        return self

    @model_validator(mode="after")
    def _given_images_stay(self) -> Method:
        if self.given is not None and (self.steps or self.match is not None or self.offset is not None):
            raise ValueError(
                "given takes the images of a finished set as they are; set steps to 0, and match and offset "
                "to null"
            )
        return self

    @model_validator(mode="after")
    def _one_schedule(self) -> Method:
        if self.early_late is not None and self.batch.slots != "all":
            raise ValueError(
                f"early_late cuts the slots of a class into groups, so a batch holds all of them: "
                f"set batch.slots to all, got {self.batch.slots}"
            )
        if self.offset is not None and self.init == "noise":
            raise ValueError(
                "offset is added to real images, but init is noise; set init to real or a selection"
            )
        if self.offset is not None and (self.early_late is not None or self.perturb is not None):
            raise ValueError("offset does not go with early_late or perturb; set both to null")
        return self

    @model_validator(mode="after")
    def _stages_of_one_length(self) -> Method:
        if self.residual is None and self.sizes is None:
            for key, default in (("budgets", "equal"), ("antialias", False)):
                if getattr(self, key) != default:
                    raise ValueError(f"{key} is for stages, but residual and sizes are null; set one of them")
            return self
        if self.sizes is not None and len(self.sizes) != self.stages:
            raise ValueError(
                f"sizes has {len(self.sizes)} numbers, but residual.stages is {self.stages}; give one for "
                "each stage"
            )
        if not isinstance(self.budgets, str) and len(self.budgets) != self.stages:
            raise ValueError(
                f"budgets has {len(self.budgets)} numbers, but there are {self.stages} stages; give one for "
                "each, or the word equal"
            )
        if self.steps and any(start == stop for start, stop in pairwise(self.stage_ends)):
            raise ValueError(
                f"steps is {self.steps}, which leaves one of the {self.stages} stages without a step; raise "
                "steps, or set residual and sizes to null"
            )
        return self

    @property
    def stage_ends(self) -> list[int]:
        """0, then the number of steps that are done at the end of each stage: floor(T i / R) where all stages
        are as long."""
        parts = [1] * self.stages if isinstance(self.budgets, str) else self.budgets
        return [self.steps * part // sum(parts) for part in accumulate(parts, initial=0)]

    @model_validator(mode="after")
    def _stages_go_with_the_rest(self) -> Method:
        for key, value in (("residual", self.residual), ("sizes", self.sizes)):
            for other in ("offset", "early_late") if value is not None else ():
                if getattr(self, other) is not None:
                    raise ValueError(f"{key} does not go with {other}; set one of them to null")
        if self.sizes is not None:
            for other in ("formation", "match"):
                if getattr(self, other) is not None:
                    raise ValueError(
                        f"sizes does not go with {other}, which has one size; set one of them to null"
                    )
            if self.decay:
                raise ValueError(
                    f"sizes does not go with decay, got {self.decay:g}, which pulls to a start of one "
                    "size; set decay to 0, or sizes to null"
                )
            if self.perturb is not None and not self.perturb.restore:
                raise ValueError(
                    "sizes does not go with perturb.restore false, whose teacher sees batches of one "
                    "size; set restore to true, or sizes to null"
                )
        if self.residual is None:
            return self
        if self.changes_size and not self.residual.reset:
            raise ValueError(
                "residual.reset is false, but moments of one size are none of another; set it to true, or "
                "give sizes that are all the same"
            )
        if self.residual.anchor == "initial" and self.init == "noise":
            raise ValueError(
                "residual blends images with the real ones that they started from, but init is noise; set "
                "init to real or a selection, or residual.anchor to nearest"
            )
        if self.residual.anchor != "initial" and self.match is not None:
            raise ValueError(
                f"residual.anchor {self.residual.anchor} compares embeddings of a teacher, which match has "
                "none of; set it to initial"
            )
        return self

    @model_validator(mode="after")
    def _first_images_are_chosen_from(self) -> Method:
        if self.init_first != "all" and self.init in ("noise", "real", "rded"):
            raise ValueError(
                f"init_first limits what a selection such as confident chooses from, but init is {self.init}"
                "; set init_first to all"
            )
        return self

    @model_validator(mode="after")
    def _starts_that_are_kept(self) -> Method:
        if self.decay and self.offset is not None:
            raise ValueError(
                f"decay pulls images to their start, which an offset leaves as it is; set decay to 0, got "
                f"{self.decay}, or offset to null"
            )
        if not (paired := self.terms.paired) or not self.steps:
            return self
        if self.init == "noise":
            raise ValueError(
                f"terms.{paired[0]} compares images with the real ones that they start from, but init is "
                "noise; set init to real or a selection"
            )
        alone = len(paired) == len(self.terms) and self.match is None
        stays = self.residual is None or self.residual.anchor == "initial"
        if alone and stays and self.formation is None:
            raise ValueError(
                f"terms.{paired[0]} alone moves nothing, since images start as what it compares them with; "
                "give a formation or a second term"
            )
        return self

    @model_validator(mode="after")
    def _match_goes_with_the_rest(self) -> Method:
        if self.match is None:
            return self
        for key in ("perturb", "early_late", "offset"):
            if getattr(self, key) is not None:
                raise ValueError(f"match does not go with {key}; set one of them to null")
        if self.match.coupled and (self.batch.classes, self.batch.slots) != ("all", "all"):
            raise ValueError(
                "match couples all images of this method, so a batch holds them all: set batch.classes and "
                f"batch.slots to all, got {self.batch.classes} and {self.batch.slots}"
            )
        if self.match.added.through == "network" and (others := self.terms.keys() - {"dire"}):
            raise ValueError(
                f"match.added.through network takes the term dire alone, got {min(others)}; set "
                f"terms.{min(others)} to null, or match.added.through to teacher"
            )
        return self

    @model_validator(mode="after")
    def _whole_formations(self) -> Method:
        if self.formation is None:
            return self
        if self.offset is not None:
            raise ValueError("formation does not go with offset; set one of them to null")
        if self.save.format != "png":
            raise ValueError(f"formation needs exact bytes: set save.format to png, got {self.save.format}")
        if self.batch.slots != "all" and self.batch.slots % self.formation.images:
            raise ValueError(
                f"formation puts {self.formation.images} slots into an image, so a batch holds a multiple of "
                f"them: set batch.slots to all, got {self.batch.slots}"
            )
        return self


CONTROL = "random"
"""name of the control of random real images, which every run has"""
RANDOM_REAL = Method(
    title="random real images", init="real", batch=BatchSize(slots="all"), terms=Terms.none(), steps=0
)
"""the method that makes those images: chosen, and not optimized"""
FULL = "full"
"""name of the reference: students of the whole real training set"""

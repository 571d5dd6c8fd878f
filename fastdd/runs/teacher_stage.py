"""A teacher of a run, given or squeezed, and the bank of the real images' statistics through it.

The first is the teacher of the run: its embeddings are what the metrics see, and it labels for the students. Further
ones, the recipe's ``committee``, speak in methods that listen to several; their files bear their names.
"""

from __future__ import annotations

import sys
from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from .. import bank as banks
from .. import recover, teachers
from ..bank import Bank
from ..config import Recipe, Terms
from ..config import Teacher as TeacherConfig
from ..data import Crop
from ..data.real_data import RealData
from ..errors import InputError
from ..models.build import outline
from ..runtime.distributed import barrier, is_main
from ..runtime.seeds import derive
from ..teachers import Card, Teacher
from .folder import RunFolder, Work


@dataclass
class Member:
    """One of a run's teachers.

    Attributes:
        name: of one of the committee; empty for the teacher of the run.
        config: its network, weights and training.
        recipe: the run's.
        real: the real images.
    """

    name: str
    config: TeacherConfig
    recipe: Recipe
    real: RealData

    @property
    def suffix(self) -> str:
        return f"-{self.name}" if self.name else ""

    @property
    def key(self) -> str:
        """Of its section in the recipe."""
        return f"committee.{self.name}" if self.name else "teacher"

    @cached_property
    def expected_card(self) -> Card:
        """What the run expects of the teacher."""
        config, (C, H, W) = self.config, self.real.shape
        return Card(config.network, self.real.classes, C, config.mean, config.std, size=(H, W))

    def check(self, terms: Collection[Terms], out: Path, fresh: bool) -> None:
        """Refuse now, and not after hours, what the teacher could not be or do.

        Raises:
            InputError: weights that do not fit or would be deleted, or a network without what the terms need.
        """
        network = outline(f"{self.key}.network", self.config.network, len(self.real.classes), self.real.shape)
        recover.Needs.together(recover.needs(each, network) for each in terms).of_bank(self.recipe.bank)
        if self.config.weights is not None:
            self._load(Path(self.config.weights))
        if self.config.init is not None and (
            fresh or not (out / f"teacher{self.suffix}.safetensors").is_file()
        ):
            teachers.start(self.config, self.expected_card, self.recipe.seed)
        for name in ("weights", "init"):
            path = getattr(self.config, name)
            if fresh and path is not None and out.resolve() in Path(path).resolve().parents:
                raise InputError(
                    f"{self.key}.{name} {path} lies in {out}, which --fresh would delete; move it"
                )

    def _load(self, path: Path) -> Teacher:
        real = self.real
        return teachers.load_teacher(path, self.config, real.classes, real.data.channels, real.device)

    # -- squeeze -------------------------------------------------------------------------------

    def teacher(self, run: RunFolder) -> Teacher:
        """The given teacher, or one trained here; its weights are kept in the run folder."""
        path = run.path / f"teacher{self.suffix}.safetensors"
        if is_main() and not path.is_file():
            with run.stage(f"squeeze{self.suffix}") as work:
                if self.config.weights is None:
                    self._squeeze(run, work)
                else:
                    self._take(Path(self.config.weights), path, work)
        barrier()
        if is_main():
            self._checkpoint(run).unlink(missing_ok=True)
        run.check_fingerprint(f"teacher{self.suffix}", teachers.fingerprint(path))
        return self._load(path)

    def _checkpoint(self, run: RunFolder) -> Path:
        return run.path / f"squeeze{self.suffix}.safetensors"

    def _squeeze(self, run: RunFolder, work: Work) -> None:
        """Train the teacher, or what is left of it."""
        config, real = self.config, self.real
        seed = derive(self.recipe.seed, f"squeeze{self.suffix}")
        if config.init is not None:
            run.check_fingerprint(f"init{self.suffix}", teachers.fingerprint(Path(config.init)))
        crop = None if config.scale is None else Crop(config.scale, flip=config.flip)
        train = teachers.open_passes(real.train, real.data, config.batch, real.device, seed, crop)
        test = teachers.open_passes(real.test_set, real.data, teachers.EVALUATION_BATCH, real.device)
        squeezed = teachers.squeeze(
            config,
            real.classes,
            train,
            test,
            seed,
            real.device,
            real.train.fingerprint,
            self._checkpoint(run),
        )
        work.images = squeezed.images
        teachers.keep(run.path, squeezed, config.minimum_accuracy, self.suffix)

    def _take(self, given_path: Path, path: Path, work: Work) -> None:
        """Keep a given teacher, with its accuracy here."""
        given = self._load(given_path)
        for text in teachers.differences(given.card, self.expected_card, ("size",)):
            print(f"squeeze: {given_path} was {text}; its accuracy may suffer", file=sys.stderr)
        images, truth = self.real.test
        work.images = len(images)
        reached = teachers.accuracy(given.network, given.normalize, images, truth)
        if reached < self.config.minimum_accuracy:
            raise InputError(
                f"{self.key}.weights: {given_path} has {reached:.1%} test accuracy here, expected at least "
                f"{self.key}.minimum_accuracy = {self.config.minimum_accuracy:.1%}; are the classes, mean and std "
                "right?"
            )
        card = replace(given.card, accuracy=reached, size=given.card.size or self.expected_card.size)
        teachers.save_teacher(path, Teacher(given.network, card))

    # -- bank ----------------------------------------------------------------------------------

    def build_bank(
        self, run: RunFolder, teacher: Teacher, terms: Collection[Terms], classes: range | None = None
    ) -> bool:
        """Build what the bank lacks, or only some classes of it; returns whether it is whole."""
        path, train = run.path / f"bank{self.suffix}", self.real.train
        if banks.is_whole(path):
            return True
        needed = recover.Needs.together(recover.needs(each, teacher.network) for each in terms)
        config = needed.of_bank(self.recipe.bank)
        kept = (name for kind in config.layers for name in teachers.layer_names(teacher.network, kind))
        layers = {*needed.gaussians, *kept}
        with run.stage(f"bank{self.suffix}") as work:
            fingerprint = run.manifest["fingerprints"][f"teacher{self.suffix}"]
            work.images = sum(train.counts[c] for c in classes or range(len(train.classes)))
            seed = derive(self.recipe.seed, "bank")
            return banks.build(
                path,
                teacher,
                self.real.stream(),
                config,
                layers=layers,
                fingerprint=fingerprint,
                seed=seed,
                classes=classes,
            )

    def bank(self, run: RunFolder) -> Bank:
        """The finished bank.

        Raises:
            InputError: it is not finished, or belongs to another teacher or other data.
        """
        bank = Bank(run.path / f"bank{self.suffix}")
        bank.require(run.manifest["fingerprints"][f"teacher{self.suffix}"], self.real.train.fingerprint)
        return bank

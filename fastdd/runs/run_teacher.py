"""One of a run's teachers: what it must be, and its weights and bank in the run folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from pathlib import Path

import torch
from torch import nn

from .. import recover, teachers
from ..bank import Bank
from ..config import Recipe, Terms
from ..config import Teacher as TeacherConfig
from ..config.naming import teacher_section
from ..data.real_data import RealData
from ..errors import InputError
from ..models.build import build
from ..models.doors import brings_weights
from ..models.outline import outline
from ..run_folder import RunFolder, Session, refuse_deleting
from ..runtime.distributed import own_share
from ..teachers import Card, Teacher
from ..teachers.released import released
from .sizes import possible_sizes


@dataclass(frozen=True)
class RunTeacher:
    """One of a run's teachers, given or to be trained.

    Attributes:
        name: its name in the recipe's ``committee``; empty for the teacher of the run.
    """

    name: str
    config: TeacherConfig
    recipe: Recipe
    real: RealData

    @property
    def key(self) -> str:
        """Its section of the recipe, for messages."""
        return teacher_section(self.name)

    @property
    def suffix(self) -> str:
        """What follows the names of its stages, fingerprints and seeds: empty, or ``-NAME``."""
        return f"-{self.name}" if self.name else ""

    @cached_property
    def expected_card(self) -> Card:
        """What the run expects of the teacher."""
        config, (C, H, W) = self.config, self.real.shape
        return Card(config.network, self.real.classes, C, config.mean, std=config.std, size=(H, W))

    def check(self, terms: Mapping[str, Terms], out: Path, fresh: bool) -> None:
        """Refuse now, and not after hours, what the teacher could not be or do. Nothing is written.

        Args:
            terms: arm that uses the teacher -> its terms.
            fresh: an earlier run in the folder will be deleted first.

        Raises:
            InputError: weights that do not fit or would be deleted, or a network without the layers that the
                terms need.
        """
        if self.config.snapshots and not self.is_trained:
            raise InputError(
                f"{self.key}.snapshots {list(self.config.snapshots)} are kept while squeeze trains, but this "
                f"teacher is given ({self.config.weights or self.config.network}); leave one of the two out"
            )
        key, name, shape = f"{self.key}.network", self.config.network, self.real.shape
        network = outline(
            key,
            name,
            len(self.real.classes),
            shape,
            trains=self.is_trained,
            sizes=possible_sizes(self.real),
            others=("resnet20",) if self.is_trained else (),
        )
        teachers.require_embedding(key, name, network, shape)
        self._try(*self._check_layers(terms, network))
        is_there = RunFolder(out).teacher(self.name).is_file() and not fresh
        if self.is_trained and not is_there:
            teachers.check_shares(self.config, len(self.real.train), own_share(), self.key)
        if self.config.init is not None and not is_there:
            teachers.initial_network(self.config, self.expected_card, self.recipe.seed, key=self.key)
        for name, path in (("weights", self.config.weights), ("init", self.config.init)):
            if fresh and path is not None:
                refuse_deleting(f"{self.key}.{name}", path, out)

    def _check_layers(
        self, terms: Mapping[str, Terms], network: nn.Module
    ) -> tuple[set[str], bool, int | None]:
        """Refuse layers that the network lacks or never calls; the recipe's key is named.

        Returns:
            The layers that are recorded, whether moments are, and the side of the patches.
        """
        needed: dict[str, recover.Needs] = {}
        for arm, each in terms.items():
            needed |= recover.needs_by_key(each, network, f"arms.{arm}.terms")
        bank = recover.Needs.together(needed.values()).of_bank(self.recipe.bank)
        layers = {key: (*each.pooled, *each.moments, *each.gaussians) for key, each in needed.items()}
        with recover.naming("bank.layers"):
            layers["bank.layers"] = tuple(teachers.mixed_layer_names(network, bank.layers))
        if bank.class_bn != "none":
            with recover.naming("bank.class_bn"):
                layers["bank.class_bn"] = tuple(teachers.batch_norm_layers(network))
        if bank.patch is not None:
            with recover.naming("bank.patch"):
                layers["bank.patch"] = tuple(teachers.hooked_layers(network))
        key_of = {names: key for key, names in reversed(layers.items())}  # arms often share their layers
        for names, key in key_of.items():
            with recover.naming(key):
                teachers.require_layers(network, names, self.real.shape)
        moments = any(each.moments for each in needed.values())
        return set(chain.from_iterable(key_of)), moments, bank.patch

    def _try(self, layers: set[str], moments: bool, patch: int | None) -> None:
        """Take two images on the CPU, with all layers recorded that the run will record.

        Raises:
            InputError: weights that do not fit or hold NaN, or a network whose layers cannot be recorded.
        """
        cpu = torch.device("cpu")
        if self.is_trained:
            with torch.random.fork_rng(devices=[]):
                network = build(self.config.network, len(self.real.classes), self.real.shape[0])
                images = torch.rand(2, *self.real.shape)
            teacher = Teacher.of(network, self.expected_card, cpu)
        else:
            teacher = self.given(cpu)
            images = teacher.normalize(self.real.first_images(2))
        features = teachers.require_taps(
            f"{self.key}.network", teacher.network, images, layers, moments=moments, patch=patch or 1
        )
        if not self.is_trained:
            key = f"{self.key}.{'network' if self.config.weights is None else 'weights'}"
            teachers.require_no_nan(key, teacher.network, features.logits)

    @property
    def is_trained(self) -> bool:
        """Whether the run trains it; else it comes from a file, or was given to ``fastdd.run`` as a
        module."""
        return self.config.weights is None and not brings_weights(self.config.network)

    def may_know_validation(self, card: Card) -> bool:
        """Whether the weights may have been trained on the validation images: they, or those that training
        began with, are given, and do not say that they were trained without them.

        Args:
            card: the card of the teacher in the run folder.
        """
        if self.real.validation_set is None:
            return False
        return self.config.init is not None or (
            not self.is_trained and card.data != self.real.train.fingerprint
        )

    def given(self, device: torch.device | None = None) -> Teacher:
        """The teacher from its file of weights or released ones, or the module that was given.

        Args:
            device: where it will be. None: the device of the run.

        Raises:
            InputError: the weights do not fit.
        """
        weights, key = self.config.weights, f"{self.key}.weights"
        if (found := released(key, weights, self.config.network)) is not None:
            compared = found.check_classes(self.real.classes)
            given = self.read(found.file(), device)
            constants = f"mean {list(found.mean)} and std {list(found.std)} are those of its training"
            notes = (constants, compared, *given.notes)
            return replace(given, card=replace(given.card, size=found.size), notes=notes)
        if weights is not None:
            return self.read(Path(weights), device)
        card = replace(self.expected_card, size=None)
        network = build(card.network, len(card.classes), card.channels)
        return Teacher.of(network, card, device or self.real.device)

    def require_same_module(self, session: Session) -> None:
        """Refuse to continue a run with another module than the one that it began with.

        Raises:
            InputError: a module was given as teacher, and its weights differ from those in the run folder.
        """
        if not brings_weights(self.config.network):
            return
        kept = self.load(session).network.state_dict()
        for name, tensor in self.given().network.state_dict().items():
            if not torch.equal(tensor, kept[name]):
                raise InputError(
                    f"{session.folder} was made with another teacher: {name} differs; give the same module "
                    "again, choose another folder with out, or start over with fresh=True, which deletes "
                    "the run there"
                )

    def read(self, path: Path, device: torch.device | None = None) -> Teacher:
        """The teacher from a file of weights.

        Args:
            device: where the teacher will be. None: the device of the run.

        Raises:
            InputError: the weights do not fit; the message names the key ``weights`` of the teacher's
                section.
        """
        real, key = self.real, f"{self.key}.weights"
        return teachers.load_teacher(
            path, self.config, real.classes, real.data.channels, device=device or real.device, key=key
        )

    def load(self, session: Session) -> Teacher:
        """The teacher that the squeeze stage has put into the run folder."""
        return self.read(session.folder.teacher(self.name))

    def fingerprint(self, session: Session) -> str:
        """sha256 of the teacher's file, as the squeeze stage noted it."""
        return session.manifest.fingerprints[f"teacher{self.suffix}"]

    def bank(self, session: Session) -> Bank:
        """The finished bank.

        Raises:
            InputError: it is not finished, or belongs to another teacher or other data.
        """
        bank = Bank(session.folder.bank(self.name))
        bank.require(self.fingerprint(session), self.real.train.fingerprint)
        return bank

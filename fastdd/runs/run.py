"""A run at work: an experiment in its open run folder, and what its stages have made there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from torch import Tensor

from ..bank import Bank
from ..distilled.fingerprint import arm_fingerprint
from ..distilled.images import Storage, load_recovered, stream_recovered
from ..experts import ExpertBuffer
from ..labels import MeanLogits
from ..run_folder import RunFolder, Session
from ..teachers import ImageScores, Teacher
from .experiment import Experiment


@dataclass(frozen=True)
class Run:
    """An experiment and its run folder.

    The properties read what earlier stages have written, when they are first asked for it.

    Attributes:
        earlier: folders of finished runs of the same sweep, whose teachers and banks are taken over where
            they are what this run would make.
        reduced: what arms have less of than their methods declare, such as steps, by arm.
    """

    experiment: Experiment
    session: Session
    earlier: Sequence[RunFolder] = ()
    reduced: Mapping[str, str] = field(default_factory=dict)

    @property
    def folder(self) -> RunFolder:
        """The files of the run."""
        return self.session.folder

    @cached_property
    def teachers(self) -> dict[int, Teacher]:
        """Number -> teacher, for those that the run needs; its own is number 0."""
        return {
            number: teacher.load(self.session) for number, teacher in self.experiment.working_teachers.items()
        }

    @property
    def teacher(self) -> Teacher:
        """The teacher of the run: metrics use its embeddings, and it labels for students unless all do."""
        return self.teachers[0]

    def labeller(self, arm: str, student: str = "") -> Teacher:
        """What labels the batches of students whose labels are not stored: the teacher of the run, or several
        as one network.

        Args:
            arm: what they learn from: an arm, the control, or the whole training set.
            student: a name in the experiment's ``students``.
        """
        numbers = self.experiment.labelling(arm, student)
        if len(numbers) == 1:
            return self.teacher
        networks = (self.teachers[number].network for number in numbers)
        return replace(self.teacher, network=MeanLogits(networks, self.experiment.recipe.labels.average))

    @cached_property
    def banks(self) -> dict[int, Bank]:
        """Statistics of the real images, one bank a teacher, by its number."""
        return {
            number: teacher.bank(self.session) for number, teacher in self.experiment.working_teachers.items()
        }

    @property
    def bank(self) -> Bank:
        """The bank of the teacher of the run."""
        return self.banks[0]

    @cached_property
    def scores(self) -> ImageScores:
        """How hard each training image was to learn, which some rules of ``init`` rank by.

        Raises:
            InputError: there are no scores, or they are of other images.
        """
        return self.experiment.scores(self.folder)

    @cached_property
    def training_images(self) -> tuple[Tensor, Tensor]:
        """All real training images, uint8 [N, C, H, W], and their classes int64 [N], in memory."""
        return self.experiment.real.images(self.experiment.real.train)

    @cached_property
    def experts(self) -> ExpertBuffer:
        """The experts that arms follow; only where an arm matches trajectories."""
        assert self.experiment.experts is not None
        return self.experiment.experts.buffer(self.session)

    @cached_property
    def image_fingerprints(self) -> dict[str, str]:
        """Arm -> the fingerprint of its image files, once all of them are there.

        Raises:
            InputError: an image is missing or unreadable.
        """
        experiment = self.experiment
        return {
            arm: arm_fingerprint(
                self.folder, arm, experiment.classes, experiment.seen(arm), method=experiment.arms[arm]
            )
            for arm in experiment.arms
        }

    def batches(self, arm: str, count: int) -> Iterator[Tensor]:
        """An arm's images on the device as ``stored`` has them, in batches of ``count``, never all in memory.

        Raises:
            InputError: an image is missing or damaged.
        """
        experiment = self.experiment
        for images in stream_recovered(
            self.folder.images(arm),
            experiment.classes,
            experiment.seen(arm),
            count,
            channels=experiment.recipe.data.channels,
            method=experiment.arms[arm],
        ):
            yield images.to(experiment.device)

    def distilled(self, arm: str) -> tuple[Tensor, Tensor]:
        """An arm's distilled images and their classes; see ``stored``."""
        images, labels, _ = self.stored(arm)
        return images, labels

    def stored(self, arm: str) -> tuple[Tensor, Tensor, Storage]:
        """An arm's distilled images, and how they are stored.

        Returns:
            uint8 images [N, C, H, W] and int64 classes [N] in class order, on the device, and how they lie in
            files.

        Raises:
            InputError: an image is missing or damaged.
        """
        experiment = self.experiment
        images, labels, storage = load_recovered(
            self.folder.images(arm),
            experiment.classes,
            experiment.seen(arm),
            channels=experiment.recipe.data.channels,
            method=experiment.arms[arm],
        )
        device = experiment.device
        return images.to(device), labels.to(device), storage.on(device)

"""The label stage of a run: the soft labels of its arms' images, and what its students learn from.

    labels/<arm>.safetensors    labels.per image: one row of logits an image
    labels/<arm>/               labels.per view: what every sample of every epoch looked like, and its logits

One process labels, before any student reads.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from .. import labels
from ..config import Recipe
from ..evaluate import Replayed, protocol_hash, protocol_text
from ..evaluate.batches import Batches
from ..protocols import SettledStudent
from ..teachers import Teacher


@dataclass(frozen=True)
class SoftLabels:
    """Labels of a run's arms.

    Attributes:
        recipe: of the run; ``labels`` says what is stored.
        folder: labels/ of the run.
        voters: the teachers that label, by name; the first is the run's own.
        fingerprints: theirs, in the same order.
    """

    recipe: Recipe
    folder: Path
    voters: Mapping[str, Teacher]
    fingerprints: tuple[str, ...]

    @property
    def by_view(self) -> bool:
        return self.recipe.labels.per == "view"

    def path(self, arm: str) -> Path:
        return self.folder / (arm if self.by_view else f"{arm}.safetensors")

    def lacks(self, arm: str) -> bool:
        """Whether there is something left to label."""
        return not (labels.is_whole(self.path(arm)) if self.by_view else self.path(arm).is_file())

    def write(self, arm: str, images: Tensor, student: SettledStudent) -> None:
        """Label what is lacking of an arm.

        Args:
            images: uint8 [N, C, H, W].
            student: settled protocol, which says how views look.
        """
        if self.by_view:
            planned = self._planned(images, student)
            labels.label_views(self.voters, images, self.path(arm), planned, name=arm)
        else:
            rows = labels.label_images(self.voters, images, arm, self.recipe.labels.average)
            labels.save_labels(self.path(arm), rows, images)

    def _planned(self, images: Tensor, student: SettledStudent) -> labels.LabelManifest:
        """The labels of an arm's views that the recipe asks for."""
        return labels.plan_labels(
            self.recipe.labels,
            student,
            images,
            classes=len(next(iter(self.voters.values())).card.classes),
            teachers=self.fingerprints,
            seed=self.recipe.seed,
        )

    def read(
        self, arm: str, images: Tensor, student: SettledStudent, truth: Tensor, seed: int
    ) -> Tensor | Batches | None:
        """What a student of an arm learns from: rows of logits, batches of labelled views, or None where nothing is
        stored.

        Raises:
            InputError: the labels are of other images or classes, damaged, or no finite numbers.
        """
        if student.labels != "stored":
            return None
        teacher = next(iter(self.voters.values()))
        classes = len(teacher.card.classes)
        if not self.by_view:
            return labels.load_labels(self.path(arm), images, classes).to(images.device)
        stored = labels.StoredLabels.open(self.path(arm), labels.images_fingerprint(images), classes)
        hard = truth if student.hard_weight else None
        return Replayed(student, teacher, images, stored, hard, seed, self.recipe.labels.replay)

    def protocol(self, student: SettledStudent) -> tuple[str, str]:
        """A settled protocol in a line, and its hash; with the stored labels where they are by view."""
        text, digest = protocol_text(student), protocol_hash(student)
        if student.labels != "stored" or not self.by_view:
            return text, digest
        config = self.recipe.labels
        kept = (
            ""
            if config.keep == 1
            else f", {config.keep:.0%} of the batches ({config.choice}, {config.replay})"
        )
        joined = digest + json.dumps(config.model_dump(mode="json"), sort_keys=True)
        return f"{text}, labels by view in {config.form}{kept}", hashlib.sha256(joined.encode()).hexdigest()[
            :8
        ]

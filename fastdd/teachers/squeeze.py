"""Squeeze: train the teacher on the real images, from random weights or from given ones.

The optimizer is SGD, batches are augmented on the device, and every epoch ends with a test. The random draws
of an epoch (order, crops or shifts, flips, dropout) depend on the seed and the epoch alone, and a checkpoint
is kept at its end, so a training that was killed and continued ends with the same bytes as one that was not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import JsonValue
from torch import Tensor, nn

from ..config import Teacher as TeacherConfig
from ..data.loading.augment import shift_and_flip
from ..errors import InputError
from ..models.build import as_input, to_device
from ..run_folder import RunFolder
from ..runtime.events import send
from ..runtime.files import write_json
from ..runtime.precision import autocast, float32_products
from ..runtime.progress import Bar, progress
from ..runtime.seeds import derive, generator
from .card import Card
from .checkpoint import Epoch, restore, save, training_identity
from .image_scores import ImageScores, save_scores
from .initial_weights import initial_network
from .load import Teacher, fingerprint, save_teacher
from .optimizer import learning_rate, sgd
from .passes import Passes
from .released import weights_file
from .snapshots import Snapshots, embed_snapshot, save_snapshots
from .training import NotFiniteError, WeightAverage, streamed_accuracy

NOT_TRAINING = ("network", "weights", "mean", "std", "minimum_accuracy", "snapshots", "scores")
"""Settings of a teacher that do not describe how it is trained."""


@dataclass(frozen=True)
class Squeezed:
    """A trained teacher.

    Attributes:
        teacher: the network with its card.
        curve: one entry an epoch.
        images: images seen by this call, which may have continued an earlier one.
        snapshots: the snapshots that the configuration asks for; None: none are kept.
        scores: how hard each training image was.
    """

    teacher: Teacher
    curve: list[Epoch]
    images: int
    snapshots: Snapshots | None = None
    scores: ImageScores | None = None


def squeeze(
    config: TeacherConfig,
    classes: tuple[str, ...],
    train: Passes,
    test: Passes,
    *,
    seed: int,
    device: torch.device,
    data: str = "",
    tested_on: Literal["validation"] | None = None,
    checkpoint: Path | None = None,
    key: str = "teacher",
    watched: tuple[Tensor, Snapshots] | None = None,
    scored: int | None = None,
) -> Squeezed:
    """Train a teacher.

    Args:
        config: network, initial weights, normalization and training settings.
        classes: class names, in order.
        train: shuffled passes over the training images.
        test: passes over the images that it is tested on; the accuracy on them goes on the card.
        seed: seed of initial weights, dropout and augmentation; the order has the seed of ``train``.
        device: where to train, and where the passes deliver.
        data: fingerprint of the training images, for the card.
        tested_on: whether ``test`` are validation images; None: they are the test split.
        checkpoint: file that keeps the state at the end of every epoch, and from which training continues;
            the caller deletes it when the teacher is saved. None: nothing is kept.
        key: the recipe's section that describes the teacher, for messages.
        watched: the images that ``config.snapshots`` are of, and their snapshots, to which those of this
            training are added. None: none are kept.
        scored: number of training images, of which it is noted how hard each is; None: nothing is noted.

    Raises:
        InputError: ``config.init`` or the checkpoint does not fit, or training diverges.
    """
    C, H, W = train.shape
    card = Card(config.network, classes, C, config.mean, std=config.std, size=(H, W), data=data)
    network, notes = initial_network(config, card, seed, key=key)
    network = to_device(network, device)
    settings = _settings(config, key)
    run = _Training(config, Teacher(network, card), batches=len(train), seed=seed, device=device, key=key)
    inputs: list[JsonValue] = [config.network, list(classes), list(config.mean), list(config.std), seed, data]
    asked: Sequence[int] = () if watched is None else config.snapshots
    if asked:
        inputs.append(list(asked))
    scores = None if scored is None else ImageScores(scored, device)
    if scores is not None:
        inputs.append("scores")
    owner = training_identity(settings, *inputs, [C, H, W], len(train))
    curve: list[Epoch] = []
    snapshots: dict[int, Tensor] = {}
    if checkpoint is not None:
        curve = restore(
            checkpoint,
            owner,
            network=network,
            optimizer=run.optimizer,
            average=run.average,
            snapshots=snapshots,
            asked=asked,
            scores=scores,
        )
    shown = tested_on or "test"
    total = (config.epochs - len(curve)) * len(train) * train.batch
    with progress("squeeze", total) as bar, float32_products(config.precision):
        for note in notes if not curve else [f"squeeze continues after epoch {len(curve)}"]:
            bar.line(note)
        for epoch in range(len(curve), config.epochs):
            loss = run.epoch(epoch, train.epoch(epoch), bar, scores)
            try:
                pairs = ((images, labels) for images, labels, _ in test.epoch(0))
                reached = streamed_accuracy(run.tested.eval(), run.teacher.normalize, pairs)
            except NotFiniteError as error:
                raise run.diverged(epoch, str(error)) from error
            rate = learning_rate(config, (epoch + 1) * len(train) - 1, config.epochs * len(train))
            curve.append({"epoch": epoch + 1, "lr": rate, "loss": loss, "accuracy": reached})
            bar.line(
                f"epoch {epoch + 1}/{config.epochs}: lr {rate:.3g}, loss {loss:.4f}, {shown} {reached:.2%}"
            )
            send("accuracy", step=epoch + 1, values={"accuracy": reached, "loss": loss, "lr": rate})
            if watched is not None and epoch + 1 in asked:
                snapshots[epoch + 1] = embed_snapshot(replace(run.teacher, network=run.tested), watched[0])
            if checkpoint is not None:
                save(
                    checkpoint,
                    owner,
                    curve,
                    network=network,
                    optimizer=run.optimizer,
                    average=run.average,
                    snapshots=snapshots,
                    scores=scores,
                )
    card = replace(card, accuracy=curve[-1]["accuracy"], training=settings, accuracy_on=tested_on)
    kept = replace(watched[1], embeddings=snapshots) if watched is not None and snapshots else None
    return Squeezed(Teacher(run.tested.eval().requires_grad_(False), card), curve, total, kept, scores)


def _settings(config: TeacherConfig, key: str) -> dict[str, JsonValue]:
    """How the teacher is trained; a file of initial weights is described by its name and content."""
    settings: dict[str, JsonValue] = config.model_dump(mode="json", exclude=set(NOT_TRAINING))
    if config.init is not None:
        path = weights_file(f"{key}.init", config.init, config.network)
        settings["init"] = {"file": path.name, "sha256": fingerprint(path)}
    return settings


class _Training:
    """A network with its optimizer and the average of its weights."""

    def __init__(
        self,
        config: TeacherConfig,
        teacher: Teacher,
        *,
        batches: int,
        seed: int,
        device: torch.device,
        key: str,
    ) -> None:
        self.config, self.teacher, self.network = config, teacher, teacher.network
        self.batches, self.seed, self.device, self.key = batches, seed, device, key
        self.optimizer = sgd(config, self.network)
        self.average = WeightAverage(self.network, config.ema) if config.ema else None
        self.note = ""

    @property
    def tested(self) -> nn.Module:
        """The network that is tested and kept: the average where there is one."""
        return self.network if self.average is None else self.average.network

    def epoch(
        self,
        epoch: int,
        batches: Iterator[tuple[Tensor, Tensor, Tensor]],
        bar: Bar,
        scores: ImageScores | None = None,
    ) -> float:
        """Train on one pass, note in ``scores`` how hard its images are, and return the mean loss.

        Raises:
            InputError: the mean loss is not finite.
        """
        config, draw = self.config, generator(self.seed, "augment", epoch)
        torch.manual_seed(derive(self.seed, "dropout", epoch))
        self.network.train()
        losses = []
        for step, (images, labels, positions) in enumerate(batches, epoch * self.batches):
            for group in self.optimizer.param_groups:
                group["lr"] = learning_rate(config, step, config.epochs * self.batches)
            batch = self.teacher.normalize(images)
            if config.scale is None:
                batch = shift_and_flip(batch, config.pad, config.flip, draw)
            with autocast(self.device, config.precision):
                logits = self.network(as_input(batch, self.network))
            loss = F.cross_entropy(logits.float(), labels, label_smoothing=config.label_smoothing)
            if scores is not None:
                scores.add(epoch, logits.detach(), labels, positions)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            if self.average is not None:
                self.average.update(self.network, step)
            losses.append(loss.detach())
            bar.advance(len(labels), self.note)
        mean = torch.stack(losses).mean().item()
        if not torch.tensor(mean).isfinite():
            raise self.diverged(epoch, f"the mean loss is {mean}")
        self.note = f"loss {mean:.3f}"
        return mean

    def diverged(self, epoch: int, how: str) -> InputError:
        """The error of a training that leads to no teacher."""
        return InputError(
            f"squeeze diverged in epoch {epoch + 1}: {how}; lower {self.key}.lr = {self.config.lr:g}, or "
            f"warm up for longer ({self.key}.warmup)"
        )


def save_squeezed(
    run: RunFolder, squeezed: Squeezed, minimum: float, *, name: str = "", key: str = "teacher"
) -> Path:
    """Write the curve as ``squeeze.json``, the snapshots, if any, as ``snapshots.safetensors``, the scores of
    images, if any, as ``scores.safetensors``, and then the teacher as ``teacher.safetensors``.

    Args:
        run: where to write.
        minimum: the accuracy in [0, 1] that the teacher must reach.
        name: a name of the recipe's ``committee``; empty for the teacher of the run.
        key: the recipe's section that describes the teacher, for messages.

    Returns:
        The path of the teacher.

    Raises:
        InputError: the accuracy is below ``minimum``; the weights are then in
            ``teacher-rejected.safetensors``.
    """
    write_json(run.training(name), {"settings": squeezed.teacher.card.training, "epochs": squeezed.curve})
    reached = squeezed.curve[-1]["accuracy"]
    if reached < minimum:
        rejected = run.rejected_teacher(name)
        save_teacher(rejected, squeezed.teacher)
        on = squeezed.teacher.card.accuracy_on or "test"
        raise InputError(
            f"squeeze reached {reached:.1%} {on} accuracy, expected at least {key}.minimum_accuracy = "
            f"{minimum:.1%}; train longer ({key}.epochs), or lower the bar; the weights are kept in "
            f"{rejected} ({key}.init trains them further)"
        )
    if squeezed.scores is not None:
        save_scores(run.scores, squeezed.scores, squeezed.teacher.card.data or "")
    if squeezed.snapshots is not None:
        save_snapshots(run.snapshots(name), squeezed.snapshots)
    path = run.teacher(name)
    save_teacher(path, squeezed.teacher)
    return path

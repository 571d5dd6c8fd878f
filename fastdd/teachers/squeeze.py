"""Squeeze: train the teacher on the real images, from random weights or from given ones.

The optimizer is SGD, batches are augmented on the device, and every epoch ends with a test. The random draws
of an epoch (order, crops or shifts, flips, dropout) depend on the seed and the epoch alone, and a checkpoint
is kept at its end, so a training that was killed and continued ends with the same bytes as one that was not.
The processes of torchrun train together (parallel.py), and another number of them may continue.

A file of initial weights that was made for other classes (by its card, or by the shape of its last layer) is
refused unless ``teacher.new_head`` allows a new last layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from pydantic import JsonValue
from torch import Tensor, nn

from ..config import Teacher as TeacherConfig
from ..errors import InputError
from ..models.build import build, to_device
from ..run_folder import RunFolder
from ..runtime.distributed import require_shared
from ..runtime.events import send
from ..runtime.files import write_json
from ..runtime.precision import float32_products
from ..runtime.progress import Bar, progress
from .card import Card, check_card, differences
from .checkpoint import Epoch, State, epochs_done, training_identity
from .epochs import Training
from .image_scores import ImageScores, save_scores
from .load import Teacher, fingerprint, save_teacher
from .passes import Passes
from .released import weights_file
from .snapshots import Snapshots, embed_snapshot, save_snapshots
from .weights import check_state, read_weights

NOT_TRAINING = ("network", "weights", "mean", "std", "minimum_accuracy", "snapshots", "scores")
"""Settings of a teacher that do not describe how it is trained."""


@dataclass(frozen=True)
class Squeezed:
    """A trained teacher.

    Attributes:
        curve: one entry an epoch.
        images: images seen by this call, which may have continued an earlier one.
        snapshots: the snapshots that the configuration asks for; None: none are kept, or another process
            keeps them.
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
        train: shuffled passes over the training images, or the share of this process: then all processes come
            together, and the first one writes the checkpoint.
        test: passes over the images that it is tested on, or a share; the accuracy on them goes on the card.
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
    settings, asked = _settings(config, key), () if watched is None else config.snapshots
    training = Training(config, Teacher(network, card), train, seed=seed, key=key)
    scores = None if scored is None else ImageScores(scored, device)
    state = State(network, training.optimizer, training.average, scores, asked)
    owner = _identity(
        config, settings, card, seed, batches=len(train), asked=asked, scored=scored is not None
    )
    if checkpoint is not None:
        require_shared(checkpoint, epochs_done)
        state.restore(checkpoint, owner)
    total = (config.epochs - len(state.curve)) * len(train) * train.batch
    with progress("squeeze", total) as bar, float32_products(config.precision):
        for note in notes if not state.curve else [f"squeeze continues after epoch {len(state.curve)}"]:
            bar.line(note)
        for epoch in range(len(state.curve), config.epochs):
            now = training.epoch(epoch, test, bar, scores)
            state.curve.append(now)
            _tell(now, config.epochs, tested_on or "test", bar)
            if train.share.number:  # the first process alone writes
                continue
            if watched is not None and epoch + 1 in asked:
                tested = replace(training.teacher, network=training.tested)
                state.snapshots[epoch + 1] = embed_snapshot(tested, watched[0])
            if checkpoint is not None:
                state.save(checkpoint, owner)
    card = replace(card, accuracy=state.curve[-1]["accuracy"], training=settings, accuracy_on=tested_on)
    kept = None if watched is None or not state.snapshots else replace(watched[1], embeddings=state.snapshots)
    teacher = Teacher(training.tested.eval().requires_grad_(False), card)
    return Squeezed(teacher, state.curve, total, kept, scores)


def _identity(
    config: TeacherConfig,
    settings: dict[str, JsonValue],
    card: Card,
    seed: int,
    *,
    batches: int,
    asked: Sequence[int],
    scored: bool,
) -> str:
    """A hash of everything that a training depends on; the number of processes is nothing of it."""
    means: list[JsonValue] = [list(config.mean), list(config.std)]
    inputs: list[JsonValue] = [config.network, list(card.classes), *means, seed, card.data]
    if asked:
        inputs.append(list(asked))
    if scored:
        inputs.append("scores")
    assert card.size is not None  # that of the training images
    return training_identity(settings, *inputs, [card.channels, *card.size], batches)


def _tell(now: Epoch, epochs: int, tested_on: str, bar: Bar) -> None:
    """Say what an epoch has reached."""
    number, rate, loss, reached = now["epoch"], now["lr"], now["loss"], now["accuracy"]
    bar.line(f"epoch {number}/{epochs}: lr {rate:.3g}, loss {loss:.4f}, {tested_on} {reached:.2%}")
    send("accuracy", step=number, values={"accuracy": reached, "loss": loss, "lr": rate})


def _settings(config: TeacherConfig, key: str) -> dict[str, JsonValue]:
    """How the teacher is trained; a file of initial weights is described by its name and content."""
    settings: dict[str, JsonValue] = config.model_dump(mode="json", exclude=set(NOT_TRAINING))
    if config.sync_batch_norm:  # then the teacher does not depend on it
        del settings["sync_batch_norm"]
    if config.init is not None:
        path = weights_file(f"{key}.init", config.init, config.network)
        settings["init"] = {"file": path.name, "sha256": fingerprint(path)}
    return settings


def save_squeezed(
    run: RunFolder, squeezed: Squeezed, minimum: float, *, name: str = "", key: str = "teacher"
) -> Path:
    """Write the curve as ``squeeze.json``, the snapshots, if any, as ``snapshots.safetensors``, the scores of
    images, if any, as ``scores.safetensors``, and then the teacher as ``teacher.safetensors``.

    Args:
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


def initial_network(
    config: TeacherConfig, expected: Card, seed: int, *, key: str = "teacher"
) -> tuple[nn.Module, list[str]]:
    """The network before training, on the CPU, and notes on its weights for the user.

    Args:
        config: its ``network``, ``init`` and ``new_head`` are read.
        expected: classes, channels, normalization and size of this run.
        key: the recipe's section that describes the teacher, for messages.

    Raises:
        InputError: the file of ``init`` is absent, damaged, or made for another network, channels or classes.
    """
    torch.manual_seed(seed)
    network = build(config.network, len(expected.classes), expected.channels)
    if config.init is None:
        return network, []
    init = f"{key}.init"
    path = weights_file(init, config.init, config.network)
    wanted = network.state_dict()
    weights = read_weights(init, path).fitted(config.network, wanted)
    given, card = weights.state, weights.card
    notes = [f"{path.name}: {text}" for text in weights.notes]
    if card is not None:
        notes += [f"{path.name}: {text}" for text in differences(card, expected, ("mean", "std", "size"))]
        check_card(init, path, card, expected, fields=("network", "channels"))
    head = _head(wanted, given)
    for_other_classes = card is not None and card.classes != expected.classes
    if for_other_classes or any(wanted[name].shape != given[name].shape for name in head):
        if not config.new_head:
            try:
                if card is not None:
                    check_card(init, path, card, expected, fields=("classes",))
                check_state(init, path, config.network, wanted=wanted, given=given)
            except InputError as error:
                raise InputError(f"{error}; {key}.new_head=true starts the last layer anew") from error
        given |= {name: wanted[name] for name in head}
        notes.append(f"{path.name} knows other classes: {', '.join(head)} start anew")
    check_state(init, path, config.network, wanted=wanted, given=given)
    network.load_state_dict(given)
    return network, notes


def _head(wanted: dict[str, Tensor], given: dict[str, Tensor]) -> list[str]:
    """Names of the last layer's tensors that hold one row a class, in both states."""
    last = list(wanted)[-1].rpartition(".")[0] + "."
    names = [name for name in wanted if name.startswith(last) and name in given]
    return [name for name in names if wanted[name].shape[1:] == given[name].shape[1:]]

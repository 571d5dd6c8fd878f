"""An epoch of squeeze: a step for each batch, then a test; by one process, or together by several.

The learning rate is a function of the step alone, and the momenta of SGD are the only state of the optimizer.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config import Teacher as TeacherConfig
from ..data.loading.augment import shift_and_flip
from ..errors import InputError
from ..models.build import as_input
from ..runtime.collective import summed
from ..runtime.precision import autocast
from ..runtime.progress import Bar
from ..runtime.seeds import derive, generator
from .checkpoint import Epoch
from .image_scores import ImageScores
from .load import Teacher
from .parallel import data_parallel, same_statistics
from .passes import Passes
from .training import NotFiniteError, WeightAverage, decay_groups, streamed_accuracy


def learning_rate(config: TeacherConfig, step: int, steps: int) -> float:
    """The learning rate of a step, 0 <= step < steps.

    onecycle: half a cosine from lr / 25 up to lr, then half a cosine down to lr / 250000 (Smith and Topin,
    2019, as in torch's OneCycleLR, without its cycled momentum). cosine: a straight line up to lr, then half
    a cosine to 0. constant: a straight line up to lr, which stays.
    """
    if config.schedule == "onecycle":
        top = max(0.0, config.warmup * steps - 1)
        if step < top:
            return _half_cosine(config.lr / 25, config.lr, step / top)
        return _half_cosine(config.lr, config.lr / 250_000, (step - top) / max(1.0, steps - 1 - top))
    top = config.warmup * steps
    if step < top:
        return config.lr * (step + 1) / (top + 1)
    if config.schedule == "constant":
        return config.lr
    return _half_cosine(config.lr, 0.0, (step - top) / (steps - top))


def _half_cosine(start: float, end: float, fraction: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * fraction)) / 2


def sgd(config: TeacherConfig, network: nn.Module) -> torch.optim.SGD:
    """SGD; 1-D parameters (BatchNorm, biases) have weight decay only where ``decay_norms`` is set."""
    groups = decay_groups(network, config.weight_decay, lambda name, p: config.decay_norms or p.ndim > 1)
    return torch.optim.SGD(
        groups, config.lr, config.momentum, nesterov=config.nesterov and config.momentum > 0
    )


class Training:
    """A network with its optimizer and the average of its weights, and what it learns from.

    Args:
        train: shuffled passes over the training images, or this process's share of them.
        key: the recipe's section that describes the teacher, for messages.
    """

    def __init__(
        self, config: TeacherConfig, teacher: Teacher, train: Passes, *, seed: int, key: str
    ) -> None:
        self.config, self.teacher, self.network, self.train = config, teacher, teacher.network, train
        self.seed, self.key, self.share = seed, key, train.share
        self.device = next(self.network.parameters()).device
        self.optimizer = sgd(config, self.network)
        self.average = WeightAverage(self.network, config.ema) if config.ema else None
        self.note = ""
        self._trained: nn.Module | None = None

    @property
    def tested(self) -> nn.Module:
        """The network that is tested and kept: the average where there is one."""
        return self.network if self.average is None else self.average.network

    @property
    def trained(self) -> nn.Module:
        """What is called in a step: the network or, with several processes, what also sends its gradients."""
        if self._trained is None:  # not before a checkpoint is read
            alone = self.share.processes == 1
            self._trained = (
                self.network if alone else data_parallel(self.network, self.device, self.config, self.key)
            )
        return self._trained

    def epoch(self, number: int, test: Passes, bar: Bar, scores: ImageScores | None = None) -> Epoch:
        """Train on one pass, and test.

        Args:
            test: passes over the images that it is tested on, or this process's share of them.
            scores: notes how hard the training images are; None: nothing is noted.

        Raises:
            InputError: the mean loss, weights or logits are not finite.
        """
        loss = self._steps(number, self.train.epoch(number), bar, scores)
        tested, several = self.tested.eval(), self.share.processes > 1
        if several:
            same_statistics(tested)
        try:
            pairs = ((images, labels) for images, labels, _ in test.epoch(0))
            reached = streamed_accuracy(tested, self.teacher.normalize, pairs, shared=several)
        except NotFiniteError as error:
            raise self._diverged(number, str(error)) from error
        steps = len(self.train)
        rate = learning_rate(self.config, (number + 1) * steps - 1, self.config.epochs * steps)
        return {"epoch": number + 1, "lr": rate, "loss": loss, "accuracy": reached}

    def _steps(
        self,
        epoch: int,
        batches: Iterator[tuple[Tensor, Tensor, Tensor]],
        bar: Bar,
        scores: ImageScores | None,
    ) -> float:
        """Take the steps of a pass, and return the mean loss."""
        config, share, draw = self.config, self.share, generator(self.seed, "augment", epoch)
        own = (share.number,) if share.number else ()
        torch.manual_seed(derive(self.seed, "dropout", epoch, *own))
        self.trained.train()
        losses = []
        for step, (images, labels, positions) in enumerate(batches, epoch * len(self.train)):
            for group in self.optimizer.param_groups:
                group["lr"] = learning_rate(config, step, config.epochs * len(self.train))
            batch = self.teacher.normalize(images)
            whole = len(labels) if share.processes == 1 else self.train.batch
            if config.scale is None:
                batch = shift_and_flip(batch, config.pad, config.flip, draw, rows=share.rows(whole), of=whole)
            with autocast(self.device, config.precision):
                logits = self.trained(as_input(batch, self.network))
            loss = F.cross_entropy(logits.float(), labels, label_smoothing=config.label_smoothing)
            if share.processes > 1:  # the mean over processes is then that over the whole batch
                loss = loss * (share.processes * len(labels) / whole)
            if scores is not None:
                scores.add(epoch, logits.detach(), labels, positions)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            if self.average is not None:
                self.average.update(self.network, step)
            losses.append(loss.detach())
            bar.advance(whole, self.note)
        if scores is not None and share.processes > 1:
            scores.merge()
        mean = (summed(torch.stack(losses).mean()) / share.processes).item()
        if not torch.tensor(mean).isfinite():
            raise self._diverged(epoch, f"the mean loss is {mean}")
        self.note = f"loss {mean:.3f}"
        return mean

    def _diverged(self, epoch: int, how: str) -> InputError:
        """The error of a training that leads to no teacher."""
        return InputError(
            f"squeeze diverged in epoch {epoch + 1}: {how}; lower {self.key}.lr = {self.config.lr:g}, or "
            f"warm up for longer ({self.key}.warmup)"
        )

"""A student in training, its schedules, and its checkpoint: what a killed training goes on from, to the byte.

The state is the student's weights, their average and the moments of the optimizer, the generators of the
random draws with the place in the present epoch, and the test accuracies so far. It is written whole or not
at all, every so many seconds, and deleted when the student is done.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from typing_extensions import TypedDict

from ..config import Student
from ..protocols import SettledStudent
from ..run_folder import TensorFile
from ..runtime.files import write_tensors
from ..teachers import WeightAverage, decay_groups
from ..teachers.load import separate_tensors
from .batches import StudentBatches
from .loss import scheduled_temperature

METADATA_KEY = "student"
REMEDY = "delete it to train this student from the start"


@dataclass(frozen=True)
class Learner:
    """A student in training.

    Attributes:
        average: the moving average of its weights; None: the protocol has none.
    """

    network: nn.Module
    optimizer: torch.optim.Optimizer
    average: WeightAverage | None

    @staticmethod
    def of(config: SettledStudent, network: nn.Module) -> Learner:
        """A student before its first step."""
        average = WeightAverage(network, config.ema) if config.ema else None
        return Learner(network, student_optimizer(config, network), average)

    @property
    def tested(self) -> nn.Module:
        """The network that is tested: the average where there is one."""
        return self.network if self.average is None else self.average.network

    def begin_step(self, rate: float, *, anew: bool) -> None:
        """Set the learning rate of a step and clear the gradients; ``anew``: the optimizer forgets its
        moments."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        if anew:
            self.optimizer.state.clear()
        self.optimizer.zero_grad()

    def end_step(self, step: int) -> None:
        """Move the weights along the gradients, and their average after them; the first step is 0."""
        self.optimizer.step()
        if self.average is not None:
            self.average.update(self.network, step)

    def networks(self) -> dict[str, Tensor]:
        """Weights and buffers of the network and of its average, by name."""
        found = {f"network/{name}": value for name, value in self.network.state_dict().items()}
        if self.average is not None:
            found |= {f"average/{name}": value for name, value in self.average.network.state_dict().items()}
        return found

    def moments(self) -> dict[str, Tensor]:
        """The optimizer's state by name, such as ``exp_avg/conv1.weight``."""
        return {
            f"{kind}/{name}": value
            for name, parameter in self.network.named_parameters()
            for kind, value in self.optimizer.state[parameter].items()
            if isinstance(value, Tensor)
        }

    def load(self, networks: Mapping[str, Tensor], moments: Mapping[str, Tensor]) -> None:
        """Take over what ``networks`` and ``moments`` gave at another time."""
        with torch.no_grad():
            for name, value in self.networks().items():
                value.copy_(networks[name])
        for name, parameter in self.network.named_parameters():
            for key, value in moments.items():
                kind, _, of = key.partition("/")
                if of == name:
                    self.optimizer.state[parameter][kind] = self._moment(parameter, value)

    def _moment(self, parameter: nn.Parameter, value: Tensor) -> Tensor:
        """A moment as the optimizer keeps it: in the layout of its parameter, and the count of steps where
        the optimizer reads it."""
        if value.ndim:
            return torch.empty_like(parameter).copy_(value)
        return value.to(parameter.device if self.optimizer.defaults.get("fused") else "cpu")


def student_optimizer(config: SettledStudent, network: nn.Module) -> torch.optim.Optimizer:
    """The protocol's optimizer over a network's parameters."""

    def decays(name: str, parameter: nn.Parameter) -> bool:
        return config.decay_norms or ("weight" in name and parameter.ndim > 1)

    groups = decay_groups(network, config.weight_decay, decays)
    if config.optimizer == "adamw":
        on_gpu = next(network.parameters()).is_cuda  # where one kernel reads and writes everything once
        return torch.optim.AdamW(groups, config.peak_lr, fused=on_gpu or None)
    return torch.optim.SGD(groups, config.peak_lr, config.momentum)


class _State(TypedDict):
    owner: str
    step: int
    curve: list[tuple[int, float]]


class StudentCheckpoint:
    """The file of a student's state.

    Args:
        owner: a hash of everything that the training depends on; the state of another one is not taken up.
        every: seconds between two writes.
    """

    def __init__(self, path: Path, owner: str, every: float) -> None:
        self.path, self.owner, self.every = path, owner, every
        self._written = time.monotonic()

    def is_due(self) -> bool:
        """Whether the last write, or the start, was so many seconds ago."""
        return time.monotonic() - self._written >= self.every

    def save(
        self, step: int, learner: Learner, source: StudentBatches, curve: list[tuple[int, float]]
    ) -> None:
        """Write the state after ``step`` steps."""
        tensors = learner.networks()
        tensors |= {f"moments/{name}": value for name, value in learner.moments().items()}
        tensors |= {f"batches/{name}": value for name, value in source.state().items()}
        tensors |= {f"random/{name}": value for name, value in _random_states(learner.network).items()}
        state: _State = {"owner": self.owner, "step": step, "curve": curve}
        write_tensors(self.path, separate_tensors(tensors), {METADATA_KEY: json.dumps(state)})
        self._written = time.monotonic()

    def restore(self, learner: Learner, source: StudentBatches, curve: list[tuple[int, float]]) -> int:
        """Take up the state where there is one of this training; ``curve`` gets the accuracies so far.

        Returns:
            The number of steps that are done; 0: there is no state.

        Raises:
            InputError: the file is damaged.
        """
        if not self.path.is_file():
            return 0
        file = TensorFile(self.path, REMEDY)
        state = file.note(METADATA_KEY, _State)
        if state["owner"] != self.owner:
            return 0
        wanted = learner.networks()
        counters = [name for name, value in wanted.items() if not value.is_floating_point()]
        file.require({name: tuple(value.shape) for name, value in wanted.items()}, counters)
        groups: dict[str, dict[str, Tensor]] = {"moments": {}, "batches": {}, "random": {}}
        networks: dict[str, Tensor] = {}
        for key in file.shapes:
            group, _, name = key.partition("/")
            groups.get(group, networks)[name if group in groups else key] = file.tensor(key, finite=False)
        learner.load(networks, groups["moments"])
        source.restore(groups["batches"], state["step"])
        _set_random_states(learner.network, groups["random"])
        curve[:] = state["curve"]
        return state["step"]

    def remove(self) -> None:
        """Delete the file where there is one."""
        self.path.unlink(missing_ok=True)


def _random_states(network: nn.Module) -> dict[str, Tensor]:
    """States of the global generators that a network draws from, for dropout."""
    device = next(network.parameters()).device
    states = {"cpu": torch.get_rng_state()}
    return states | ({"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else {})


def _set_random_states(network: nn.Module, states: Mapping[str, Tensor]) -> None:
    torch.set_rng_state(states["cpu"])
    if "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], next(network.parameters()).device)


# -- schedules -----------------------------------------------------------------------------------
#
# The learning rate of a protocol with peak lr, after a part p of the training:
#
#     cosine      lr (1 + cos(pi p / s)) / 2       s: stretch; with s = 2 it ends at lr / 2
#     cos2        the same up to p = 5/6, then (1 - p) times its value at 5/6, which is a line down to 0
#     multistep   lr f^k                           k: number of milestones passed; f: milestone_factor
#
# A warm-up comes first, on a line from warmup_start lr to lr; p counts what is left of the training after it.
# With ``restart_momentum`` the optimizer begins anew at each milestone.


def learning_rate(config: SettledStudent, step: int, steps: int, batches: int) -> float:
    """The learning rate of a step, 0 <= step < steps; an epoch has ``batches`` steps."""
    return config.peak_lr * learning_rate_factor(config, *done_of_total(config, step, steps, batches))


def done_of_total(config: Student, step: int, steps: int, batches: int) -> tuple[float, float]:
    """What is done before a step, and all that is to be done, in steps or epochs (``lr_interval``)."""
    return (step, steps) if config.lr_interval == "step" else (step // batches, steps / batches)


def learning_rate_factor(config: Student, done: float, total: float) -> float:
    """The learning rate as a part of ``lr``, after ``done`` of ``total`` steps or epochs."""
    warmup = config.warmup * total
    if done < warmup:
        return config.warmup_start + (1 - config.warmup_start) * done / warmup
    done, total = done - warmup, total - warmup
    if config.schedule == "constant":
        return 1.0
    if config.schedule == "multistep":
        return config.milestone_factor ** _milestones_passed(config, done, total)
    if config.schedule == "cos2" and 6 * done > 5 * total:
        return _cosine(5, 6, config.stretch) * (1 - done / total)
    return _cosine(done, total, config.stretch)


def temperature_at(
    config: Student, step: int, steps: int, *, batches: int, device: torch.device
) -> Tensor | None:
    """T of a step as a scalar tensor; None: it has no schedule. An epoch has ``batches`` steps."""
    if config.temperature_schedule is None:
        return None
    value = scheduled_temperature(config, *done_of_total(config, step, steps, batches))
    return torch.full((), value, device=device)


def _milestones_passed(config: Student, done: float, total: float) -> int:
    """How many milestones lie at or before ``done`` of ``total`` steps or epochs after the warm-up."""
    return sum(done >= part * total - 1e-9 * total for part in config.milestones)


def restarts_momentum(config: Student, step: int, steps: int, batches: int) -> bool:
    """Whether the optimizer forgets its momentum before a step: the first one after a milestone."""
    if not config.restart_momentum or not step:
        return False
    passed = []
    for number in (step - 1, step):
        done, total = done_of_total(config, number, steps, batches)
        warmup = config.warmup * total
        passed.append(_milestones_passed(config, done - warmup, total - warmup))
    return passed[1] > passed[0]


def _cosine(done: float, total: float, stretch: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * done / total / stretch))


def test_steps(config: SettledStudent, batches: int) -> set[int]:
    """The numbers of steps after which the student is tested; an epoch has ``batches`` steps."""
    steps = config.training_steps
    if config.test_every is None:
        done = {-(-number * steps // config.evaluations) for number in range(1, config.evaluations + 1)}
    else:
        done = {*range(config.test_every * batches, steps, config.test_every * batches), steps}
    return {step for step in done if step > config.best_from * steps}

"""Steps as CUDA graphs: what a step launches is recorded once, and then replayed by one call of the host.

A step of ResNet-18 launches some 400 kernels, which takes a host longer than a GPU needs for the images of a
small unit. A graph holds the addresses that its kernels read and write, so whatever changes from step to step
lies in tensors that stay where they are: the images, the optimizer's moments and count, the learning rate,
and the step's augmentation. A graph belongs to one unit, one round of it (DELT), one size of its images
(FADRM) and one set of teachers. The first step of that kind runs as it is, and so makes all that is made
once; the second is captured.

    step 0    warm-up on a side stream
    step 1    capture on that stream, then replay
    step 2    replay
    ...
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Protocol

import torch
from torch import Tensor

from ..config import Method, Recover
from ..errors import InputError
from .objective import Draw, TeacherSignal, Variable
from .steps import Round
from .terms.base import Values, term_class
from .trial import own_terms

Work = Callable[[], Values]
"""gradient, update and clipping of one step; it gives the named values of the loss"""


class Capturer(Protocol):
    """Records work and repeats it, for the steps of one unit."""

    def warm_up(self, work: Work) -> Values:
        """Do the work as it is."""

    def capture(self, work: Work) -> tuple[Values, Callable[[], None]]:
        """Record the work and do it once.

        Returns:
            (values, replay): ``replay`` does the work again on the same tensors, and overwrites the values.
        """


class CUDAGraphs:
    """Graphs that share one memory pool, since no two of them run at once."""

    def __init__(self, device: torch.device) -> None:
        self.stream, self.pool = _side_stream(device), torch.cuda.graph_pool_handle()

    def warm_up(self, work: Work) -> Values:
        current = torch.cuda.current_stream(self.stream.device)
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            values = work()
        current.wait_stream(self.stream)
        return values

    def capture(self, work: Work) -> tuple[Values, Callable[[], None]]:
        graph = torch.cuda.CUDAGraph()
        # Other threads may use the GPU meanwhile, so only this one is held to what a capture allows.
        with torch.cuda.graph(graph, self.pool, self.stream, capture_error_mode="thread_local"):
            values = work()
        graph.replay()
        return values, graph.replay


@cache
def _side_stream(device: torch.device) -> torch.cuda.Stream:
    """One for all units, since libraries keep a workspace for each stream."""
    return torch.cuda.Stream(device)


class _Recording:
    """A captured step: where its augmentation is put, and the values that each replay overwrites."""

    def __init__(self, capturer: Capturer, work: Callable[[Draw], Values], drawn: Draw) -> None:
        augmentation = drawn.augmentation
        self.augmentation = None if augmentation is None else augmentation.clone()
        own = drawn._replace(augmentation=self.augmentation)
        self.values, self.replay = capturer.capture(lambda: work(own))

    def __call__(self, drawn: Draw) -> Values:
        if self.augmentation is not None and drawn.augmentation is not None:
            self.augmentation.copy_(drawn.augmentation)
        self.replay()
        return self.values


class CapturedSteps:
    """The steps of one unit; a call takes one step and returns the named values of its loss.

    The values of a replayed step are overwritten by the next one.

    Args:
        signal: what moves the images; it has started the unit.
        optimizer: moves it; its learning rate is a tensor on the device of the images.
    """

    def __init__(
        self, signal: TeacherSignal, variable: Variable, optimizer: torch.optim.Optimizer, capturer: Capturer
    ) -> None:
        self.signal, self.variable, self.optimizer, self.capturer = signal, variable, optimizer, capturer
        self.part: Round | None = None
        self.recordings: dict[tuple[torch.Size, Sequence[int]], _Recording | None] = {}

    def __call__(self, part: Round, step: int) -> Values:
        if part is not self.part:  # DELT's earlier rounds never return
            self.part, self.recordings = part, {}
        drawn = self.signal.draw(part, step)
        kind = self.variable.free.shape, drawn.teachers
        if kind not in self.recordings:
            self.recordings[kind] = None
            return self.capturer.warm_up(lambda: self._work(drawn))
        recording = self.recordings[kind]
        if recording is not None:
            return recording(drawn)
        recording = self.recordings[kind] = self._captured(drawn)
        return recording.values

    def _work(self, drawn: Draw) -> Values:
        self.optimizer.zero_grad()
        values = self.signal.gradient(self.variable, drawn)
        self.variable.step(self.optimizer)
        return values

    def _captured(self, drawn: Draw) -> _Recording:
        # Adam looks whether it was told of a capture, and warns where it was told and there is none.
        groups = [group for group in self.optimizer.param_groups if "capturable" in group]
        for group in groups:
            group["capturable"] = True
        try:
            return _Recording(self.capturer, self._work, drawn)
        finally:
            for group in groups:
                group["capturable"] = False


def optimizer_for_capture(method: Method, free: Tensor) -> torch.optim.Optimizer:
    """The method's optimizer of ``free`` with its learning rate and its count of steps on the device."""
    optimizer: torch.optim.Optimizer
    if method.optimizer == "sgd":
        optimizer = torch.optim.SGD([free], lr=method.lr, momentum=method.momentum, fused=True)
    else:
        optimizer = torch.optim.Adam([free], lr=method.lr, betas=method.betas, fused=True)
    # Given to the constructor, the tensor would be read back by the host.
    optimizer.param_groups[0]["lr"] = torch.tensor(method.lr, dtype=torch.float32, device=free.device)
    return optimizer


def forbids_capture(method: Method, networks: Sequence[str], device: torch.device) -> str | None:
    """What forbids that an arm's steps are captured, as a clause; None: nothing does."""
    if device.type != "cuda":
        return f"graphs of steps need a GPU, and the device is {device.type}"
    if method.match is not None:
        return "steps that match synthetic with real images are not captured"
    if own := own_terms(method.terms):
        return f"terms.{own[0]} is your own, and its code may wait for the GPU"
    if waiting := [name for name in method.terms if term_class(name).waits]:
        return f"the host waits for the GPU in terms.{waiting[0]}"
    for network in networks:
        door, colon, _ = network.partition(":")
        if colon and door not in ("timm", "torchvision"):
            return f"the network {network} is your own, and its code may wait for the GPU"
    return None


def check_capture(arm: str, config: Recover, forbids: str | None) -> None:
    """Refuse ``recover.capture: true`` for an arm where something forbids it."""
    if config.capture is True and forbids is not None:
        raise InputError(
            f"recover.capture is true, but arms.{arm} cannot be captured: {forbids}; set it to auto"
        )

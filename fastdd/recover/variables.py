"""What the optimizer moves: the pixels of images, or what a formation keeps of them, or an offset they share.

Each is a ``Variable`` (objective.py). With ``method.decay`` every step first pulls what moves towards its
start:

    free <- free - lr decay (free - start)

With the start at zero that is the decoupled weight decay of AdamW; CIM's images are a start and what AdamW
adds to it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..config import Formation, Method, Offset
from ..distilled.formation import LowFrequencies
from ..distilled.tiles import collage, enlarged
from .objective import Variable
from .plan import Unit
from .stages import Size, resized, size_of

Bounds = tuple[Tensor, Tensor]
"""normalized black and white, each [C, 1, 1]"""


class Pixels:
    """The images themselves, clipped after each step, or with ``clip=False`` at the end alone.

    Args:
        images: normalized images [N, C, H, W] to start from; they stay as they are.
        decay: factor of the pull towards the start; 0: there is none.

    Attributes:
        free: what moves, at the size of the present stage.
        of_size: ``free`` of each size so far, which captured steps need where it is.
    """

    def __init__(self, images: Tensor, bounds: Bounds, clip: bool = True, decay: float = 0.0) -> None:
        self.anchors, self.bounds, self.clip, self.decay = images, bounds, clip, decay
        self.free = (
            self._stored(images).clone().contiguous(memory_format=torch.channels_last).requires_grad_()
        )
        self._project()
        self.start = self.free.detach().clone() if self.decay else None
        self.of_size = {size_of(self.free): self.free}

    def _project(self) -> None:
        """Reduce what moves to what can be stored, at the start and after each step."""

    def images(self, rows: Tensor | None = None) -> Tensor:
        return self.free if rows is None else self.free[rows]

    @torch.no_grad()
    def step(self, optimizer: torch.optim.Optimizer) -> None:
        if self.start is not None:
            (group,) = optimizer.param_groups
            self.free.sub_(group["lr"] * self.decay * (self.free - self.start))
        optimizer.step()
        if self.clip:
            self.free.clamp_(*self.bounds)
        self._project()

    @torch.no_grad()
    def resize(self, size: Size, *, antialias: bool) -> None:
        """Go on with the images at a size, (H, W) in pixels; those of a formation keep theirs."""
        if size == size_of(self.free):
            return
        images = resized(self.free.detach(), size, antialias=antialias)
        if size in self.of_size:
            self.free = self.of_size[size].copy_(images)
        else:
            self.free = images.contiguous(memory_format=torch.channels_last).requires_grad_()
            self.of_size[size] = self.free

    @torch.no_grad()
    def blend(self, real: Tensor, alpha: float) -> None:
        """Give what moves the share ``alpha``, and real images [N, C, H, W] of its size the rest."""
        self.free.mul_(alpha).add_(self._stored(real), alpha=1 - alpha)
        self._project()

    def _stored(self, images: Tensor) -> Tensor:
        """What moves, where the images are these."""
        return images

    def result(self) -> Tensor:
        images = self.free.detach()
        return images if self.clip else images.clamp(*self.bounds)


class Formed(Pixels):
    """Images reduced to the low frequencies that a formation stores, at the start and after each step."""

    def __init__(
        self, images: Tensor, bounds: Bounds, formation: Formation, clip: bool = True, decay: float = 0.0
    ) -> None:
        self.low_frequencies = LowFrequencies(formation, images)
        super().__init__(images, bounds, clip, decay)

    @torch.no_grad()
    def _project(self) -> None:
        black, white = self.bounds
        shown = (self.free - black) / (white - black)
        self.free.copy_(black + (white - black) * self.low_frequencies(shown))


class Tiled(Pixels):
    """Tiles of stored images, which are enlarged into the images; the gradient passes the enlargement.

    The stored images [N / formation.images, C, H, W] are what moves and what is clipped, and they are the
    result. Each image is first reduced to its tile by nearest sampling.
    """

    def __init__(
        self, images: Tensor, bounds: Bounds, formation: Formation, clip: bool = True, decay: float = 0.0
    ) -> None:
        black, white = bounds
        self.formation, self.grey = formation, black + 0.5 * (white - black)
        super().__init__(images, bounds, clip, decay)

    def _stored(self, images: Tensor) -> Tensor:
        return collage(images, self.formation)

    def images(self, rows: Tensor | None = None) -> Tensor:
        images = enlarged(self.free, self.formation, self.grey)
        return images if rows is None else images[rows]


class Offsets:
    """INFER: real images plus an offset [C, H, W] for each slot of a unit's batches, which starts at zero.

    The images of all classes in a slot share its offset. INFER's batch is one slot. A batch of several, as
    with ``--add dire``, has an offset for each: one for all would move the images of a class alike, which
    DiRe's terms compare. As in the released code, the images are clipped only at the end: neither the offset
    nor what the teacher sees is clipped. The released code also keeps the offset that the last step started
    from (``before_last_step``).
    """

    def __init__(self, images: Tensor, bounds: Bounds, unit: Unit, config: Offset) -> None:
        self.anchors, self.bounds, self.config = images, bounds, config
        self.batches, self.classes, self.slots = unit.shape
        offsets = self.batches * self.slots
        self.free = torch.zeros(offsets, *images.shape[1:], device=images.device).requires_grad_()
        self.before = torch.zeros_like(self.free)

    def _moved(self, offset: Tensor) -> Tensor:
        of_batches = offset.view(self.batches, 1, self.slots, *offset.shape[1:])
        of_rows = of_batches.expand(-1, self.classes, *[-1] * offset.ndim)
        return self.anchors + of_rows.reshape(self.anchors.shape)

    def images(self, rows: Tensor | None = None) -> Tensor:
        images = self._moved(self.free)
        return images if rows is None else images[rows]

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        self.before.copy_(self.free.detach())
        optimizer.step()

    def result(self) -> Tensor:
        offset = self.before if self.config.before_last_step else self.free.detach()
        return self._moved(offset).clamp(*self.bounds)


def variable_of(images: Tensor, unit: Unit, method: Method, bounds: Bounds) -> Variable:
    """The variable of a unit, which starts at normalized images [N, C, H, W]."""
    if method.offset is not None:
        return Offsets(images, bounds, unit, method.offset)
    if method.formation is None:
        return Pixels(images, bounds, method.clip, method.decay)
    kind = Tiled if method.formation.tiled else Formed
    return kind(images, bounds, method.formation, method.clip, method.decay)

"""Siamese augmentation (DSA) of a batch as one operator: color, shift, flip, zoom, rotation and cutout.

    y = cutout(color(warp(x)))         one row of parameters for each group of images

Dataset condensation shows real and synthetic images the same augmentation and differentiates through it (Zhao
and Bilen, ICML 2021, section 3.2). Each operation has an identity value, so one operator does all of them,
one of them or none, and shapes never depend on the draw:

    warp     output pixel p reads the input at q = M (p - c) + c + t, where c is the center of the image:
             bilinearly between the four pixels around q, and 0 outside (``F.grid_sample``)
    color    x + b, then x + (s - 1) (x - its mean over channels), then x + (k - 1) (x - its mean)
    cutout   a rectangle of zeros

Zero is the mean color of normalized images. The warp is linear, and both it and its adjoint are gathers: an
input pixel collects from the outputs that may have read it, which lie in a window of 4 x 4 around
M^-1 (q - c - t) + c. So the gradient has no atomic additions and is the same bits each time, on every device.
The identity, shifts and flips are exact: their four weights are 1, 0, 0 and 0.

Cost: 4 multiply-adds a number forward, 16 backward; where the parameters are on the host, only for the images
that an operation changes. All images of a group read the same places, so an index is read once for them all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from .autograd import Context

Operation = Literal["color", "crop", "cutout", "flip", "scale", "rotate"]
OPERATIONS: tuple[Operation, ...] = get_args(Operation)

COLUMNS = (
    *("brightness", "saturation", "contrast", "down", "right", "flip"),
    *("scale_y", "scale_x", "angle", "top", "left", "bottom", "after"),
)
"""Columns of a row of parameters: see :func:`siamese_draws`."""
IDENTITY = (0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0)

CROP = 0.125
"""Largest shift, as a part of the side."""
CUTOUT = 0.5
"""Side of the rectangle of zeros, as a part of the image's."""
SCALE = 1.2
"""Largest zoom, out and in."""
ROTATE = 15.0
"""Largest angle in degrees, either way."""
STRETCH = 1.5
"""Largest sum of a row of |M^-1| for which 4 x 4 outputs are all that read an input pixel."""

# -- reference -------------------------------------------------------------------------------------


def siamese_augment_reference(x: Tensor, parameters: Tensor) -> Tensor:
    """The definition, one group after the other, by PyTorch's own sampling."""
    groups = []
    for images, row in zip(x.tensor_split(len(parameters)), parameters.to(x), strict=True):
        brightness, saturation, contrast, down, right, flip, scale_y, scale_x, angle, *cut = row.unbind()
        height, width = x.shape[2:]
        mirror = 1 - 2 * flip
        matrix = torch.stack(
            (
                torch.stack(
                    (scale_x * mirror * angle.cos(), -scale_x * mirror * angle.sin(), 2 * right / width)
                ),
                torch.stack((scale_y * angle.sin(), scale_y * angle.cos(), 2 * down / height)),
            )
        )
        grid = F.affine_grid(matrix.expand(len(images), 2, 3), list(images.shape), align_corners=False)
        y = F.grid_sample(images, grid, align_corners=False)
        y = y + brightness
        mean = y.mean(1, keepdim=True)
        y = (y - mean) * saturation + mean
        mean = y.mean((1, 2, 3), keepdim=True)
        y = (y - mean) * contrast + mean
        top, left, bottom, after = (int(edge) for edge in cut)
        y = y.clone()
        y[:, :, top:bottom, left:after] = 0
        groups.append(y)
    return torch.cat(groups)


# -- the draw --------------------------------------------------------------------------------------


def columns_of(operation: Operation, u: Tensor, height: int, width: int) -> dict[str, Tensor]:
    """The columns that an operation sets, from uniform numbers u [count, 3] in [0, 1) (DSA, table 6)."""
    first, second, third = u.unbind(1)
    if operation == "color":
        return {"brightness": first - 0.5, "saturation": 2 * second, "contrast": third + 0.5}
    if operation == "crop":
        return {"down": _shift(first, height), "right": _shift(second, width)}
    if operation == "cutout":
        (top, bottom), (left, after) = _hole(first, height), _hole(second, width)
        return {"top": top, "bottom": bottom, "left": left, "after": after}
    if operation == "flip":
        return {"flip": (first < 0.5).to(u)}
    if operation == "scale":
        low = 1 / SCALE
        return {"scale_x": low + (SCALE - low) * first, "scale_y": low + (SCALE - low) * second}
    return {"angle": (first - 0.5) * math.radians(2 * ROTATE)}


def _shift(u: Tensor, side: int) -> Tensor:
    """A whole number of pixels from -reach to reach."""
    reach = int(CROP * side + 0.5)
    return (u * (2 * reach + 1)).floor() - reach


def _hole(u: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """First pixel and the one after the last, of half the side around any pixel, cut at the edges."""
    length = int(CUTOUT * side + 0.5)
    start = (u * (side + 1 - length % 2)).floor() - length // 2
    return start.clamp(min=0), (start + length).clamp(max=side)


def siamese_draws(
    count: int,
    height: int,
    width: int,
    operations: Sequence[Operation] = OPERATIONS,
    together: bool = False,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Draws the augmentation of ``count`` groups of images.

    Args:
        count: number of independent draws.
        height, width: of the images, in pixels.
        operations: of which each draw takes one, all with the same probability.
        together: each draw takes all of them instead (IDC, with color, crop and cutout).
        generator: source of the numbers. A call takes as many whatever comes of them.

    Returns:
        float64 [count, 13]: what is added to the color; factors of saturation and contrast; the shifts down
        and right, in pixels, at which the input is read; 1 for a mirror image; the steps in the input, down
        and right, for one in the output; the angle in radians; and the rectangle of zeros, from (top, left)
        to before (bottom, after). On the generator's device, or the CPU.

    Raises:
        ValueError: an operation is unknown, or there is none.
    """
    unknown = [name for name in operations if name not in OPERATIONS]
    if unknown or not operations:
        given = repr(unknown[0]) if unknown else "none"
        raise ValueError(f"operations must be some of {', '.join(OPERATIONS)}, got {given}")
    if count < 0 or height < 1 or width < 1:
        raise ValueError(f"need count >= 0, height, width > 0, got {count}, {height}, {width}")
    device = "cpu" if generator is None else generator.device
    u = torch.rand(count, 1 + 3 * len(operations), dtype=torch.float64, generator=generator, device=device)
    chosen = (u[:, 0] * len(operations)).long()
    parameters = u.new_tensor(IDENTITY).repeat(count, 1)
    for number, operation in enumerate(operations):
        takes = (chosen == number) | together
        for name, value in columns_of(
            operation, u[:, 1 + 3 * number : 4 + 3 * number], height, width
        ).items():
            column = parameters[:, COLUMNS.index(name)]
            column.copy_(torch.where(takes, value, column))
    return parameters


def _check(x: Tensor, parameters: Tensor) -> None:
    if x.ndim != 4 or 0 in x.shape[1:] or not x.is_floating_point():
        raise ValueError(f"x must be a floating-point [N, C, H, W], got {tuple(x.shape)} {x.dtype}")
    N, _, H, W = x.shape
    if parameters.ndim != 2 or parameters.shape[1] != len(COLUMNS):
        raise ValueError(
            f"parameters must be [G, {len(COLUMNS)}] of siamese_draws, got {tuple(parameters.shape)}"
        )
    groups = len(parameters)
    if N % groups if groups else N:
        raise ValueError(
            f"the rows of parameters must divide the {N} images into equal groups, got {groups} rows"
        )
    if groups and parameters.device.type == "cpu" and not torch.compiler.is_compiling():
        stretch = float(torch.linalg.inv(_matrix(parameters.double(), H, W)).abs().sum(2).max())
        if not stretch <= STRETCH:
            raise ValueError(
                f"the strongest zoom and rotation spreads a pixel over {stretch:.3g} of the result, expected "
                f"at most {STRETCH:g}; use a smaller angle or a larger scale"
            )


# -- the warp --------------------------------------------------------------------------------------


class _Places(NamedTuple):
    """The pixels that each pixel collects from, all groups one below the other."""

    rows: Tensor
    """int64 [G H W, taps]: numbers of pixels in the groups' images"""
    weight: Tensor
    """[G H W, taps]"""


def _matrix(parameters: Tensor, height: int, width: int) -> Tensor:
    """M [G, 2, 2], from steps in the output to steps in the input, each (down, right) in pixels."""
    scale_y, scale_x, angle = (
        parameters[:, 6],
        parameters[:, 7] * (1 - 2 * parameters[:, 5]),
        parameters[:, 8],
    )
    sine, cosine = angle.sin(), angle.cos()
    down = torch.stack((scale_y * cosine, scale_y * sine * (height / width)), 1)
    right = torch.stack((-scale_x * sine * (width / height), scale_x * cosine), 1)
    return torch.stack((down, right), 1)


def _places(parameters: Tensor, height: int, width: int, adjoint: bool) -> _Places:
    """What each output pixel reads; or, as the adjoint, the outputs that have read each input pixel."""
    matrix, shift = _matrix(parameters, height, width), parameters[:, None, 3:5]
    middle = parameters.new_tensor(((height - 1) / 2, (width - 1) / 2))
    rows = torch.arange(height, device=parameters.device)
    columns = torch.arange(width, device=parameters.device)
    here = torch.cartesian_prod(rows, columns).view(-1, 2)  # [H W, 2]

    def read(pixels: Tensor) -> Tensor:
        """Where output pixels [..., 2] read the input."""
        return (
            torch.einsum("gab,g...b->g...a", matrix, pixels - middle)
            + shift.view(-1, *[1] * (pixels.ndim - 2), 2)
            + middle
        )

    if adjoint:
        back = torch.linalg.inv(matrix)
        start = torch.einsum("gab,gpb->gpa", back, here - middle - shift) + middle - 1
    else:
        start = read(here.expand(len(parameters), -1, 2))
    side = torch.arange(4 if adjoint else 2, device=parameters.device)
    taps = start.floor().long()[:, :, None] + torch.cartesian_prod(side, side)  # [G, H W, taps, 2]
    distance = read(taps) - here[:, None] if adjoint else start[:, :, None] - taps
    bounds = here.new_tensor((height, width))
    inside = ((taps >= 0) & (taps < bounds)).all(-1)
    weight = torch.where(inside, (1 - distance.abs()).clamp(min=0).prod(-1), 0.0)
    index = (taps.clamp(min=0).minimum(bounds - 1) * here.new_tensor((width, 1))).sum(-1)
    first = torch.arange(len(parameters), device=parameters.device) * (height * width)
    return _Places((index + first[:, None, None]).flatten(0, 1), weight.flatten(0, 1))


def _collected(x: Tensor, places: _Places, groups: int) -> Tensor:
    """The weighted sum of the places of each pixel, for all channels and images of its group at once."""
    N, C, H, W = x.shape
    rows = x.reshape(groups, -1, C, H * W).permute(0, 3, 1, 2).reshape(groups * H * W, -1)
    weight = places.weight.to(torch.promote_types(x.dtype, torch.float32))
    out = weight.new_zeros(rows.shape)
    for tap in range(weight.shape[1]):
        out = torch.addcmul(out, rows.index_select(0, places.rows[:, tap]), weight[:, tap, None])
    return out.view(groups, H * W, -1, C).permute(0, 2, 3, 1).reshape(N, C, H, W).to(x.dtype)


def _sampled(x: Tensor, parameters: Tensor, adjoint: bool) -> Tensor:
    """The warp or its adjoint by PyTorch's sampling, which on a CPU is fast and adds in a fixed order."""
    groups, (N, _, H, W) = len(parameters), x.shape
    matrix = _matrix(parameters, H, W).flip(1, 2)  # grids are (right, down), in half sides
    sides = matrix.new_tensor((W, H))
    matrix = torch.cat(
        (matrix * sides / sides[:, None], 2 * parameters[:, 3:5].flip(1)[..., None] / sides[:, None]), 2
    )
    grid = F.affine_grid(matrix, [groups, 1, H, W], align_corners=False).repeat_interleave(N // groups, 0)
    y = x.to(parameters.dtype)
    if adjoint:
        backward = torch.ops.aten.grid_sampler_2d_backward
        return backward(y, y, grid, 0, 0, False, [True, False])[0].to(x.dtype)
    return F.grid_sample(y, grid, align_corners=False).to(x.dtype)


class _Warp(torch.autograd.Function):
    """The warp or its adjoint; each is the other's derivative, so gradients of every order are exact."""

    @staticmethod
    def forward(x: Tensor, parameters: Tensor, adjoint: bool) -> Tensor:
        if x.device.type == "cpu" and not torch.compiler.is_compiling():
            return _sampled(x, parameters, adjoint)
        return _collected(x, _places(parameters, x.shape[2], x.shape[3], adjoint), len(parameters))

    @staticmethod
    def setup_context(ctx: Context[bool], inputs: tuple[Tensor, Tensor, bool], output: Tensor) -> None:
        _, parameters, ctx.options = inputs
        ctx.save_for_backward(parameters)

    @staticmethod
    def backward(ctx: Context[bool], *grads: Tensor) -> tuple[Tensor | None, None, None]:
        if not ctx.needs_input_grad[0]:
            return None, None, None
        (parameters,) = ctx.saved_tensors
        return _Warp.apply(grads[0], parameters, not ctx.options), None, None


# -- the three steps, each for images [N, C, H, W] and one row of parameters a group ---------------


def _warped(x: Tensor, parameters: Tensor) -> Tensor:
    y: Tensor = _Warp.apply(x, parameters, False)
    return y


def _moved(x: Tensor, parameters: Tensor) -> Tensor:
    """Whole shifts and flips, exactly: each image reads rows and columns of itself and a border of zeros."""
    N, C, H, W = x.shape
    here = parameters.repeat_interleave(N // len(parameters), 0).long()
    rows = torch.arange(H, device=x.device) + here[:, 3:4]
    columns = torch.arange(W, device=x.device)
    columns = torch.where(here[:, 5:6] == 1, W - 1 - columns, columns) + here[:, 4:5]
    outside = ((rows < 0) | (rows >= H))[:, :, None] | ((columns < 0) | (columns >= W))[:, None]
    index = rows.clamp(0, H - 1)[:, :, None] * W + columns.clamp(0, W - 1)[:, None]
    y = x.flatten(2).gather(2, index.view(N, 1, H * W).expand(N, C, H * W))
    return y.view(N, C, H, W).masked_fill(outside[:, None], 0.0)


def _colored(x: Tensor, parameters: Tensor) -> Tensor:
    """b + k s x + k (1 - s) mean over channels + (1 - k) mean: the three changes of color, multiplied out."""
    y = x.view(len(parameters), -1, *x.shape[1:])
    b, s, k = parameters.to(x.dtype)[:, :3].view(-1, 3, 1, 1, 1, 1).unbind(1)
    of_pixels = y.mean(2, keepdim=True)
    rest = b + k * (1 - s) * of_pixels + (1 - k) * of_pixels.mean((3, 4), keepdim=True)
    return (y * (k * s) + rest).view(x.shape)


def _cut(x: Tensor, parameters: Tensor) -> Tensor:
    y = x.view(len(parameters), -1, *x.shape[1:])
    H, W = x.shape[2:]
    top, left, bottom, after = parameters[:, 9:].view(-1, 4, 1, 1).unbind(1)
    rows, columns = torch.arange(H, device=x.device)[:, None], torch.arange(W, device=x.device)
    hole = (rows >= top) & (rows < bottom) & (columns >= left) & (columns < after)
    return y.masked_fill(hole[:, None, None], 0.0).view(x.shape)


def _where(x: Tensor, needed: Tensor, step: Callable[[Tensor, Tensor], Tensor], parameters: Tensor) -> Tensor:
    """Does a step for the groups that need it, which the host knows; others stay as they are, to the bit."""
    groups = needed.nonzero()[:, 0]
    if not len(groups):
        return x
    if len(groups) == len(needed):
        return step(x, parameters)
    size = len(x) // len(needed)
    images = (groups[:, None] * size + torch.arange(size)).flatten().to(x.device)
    return x.index_copy(0, images, step(x.index_select(0, images), parameters[groups.to(x.device)]))


# -- public function -------------------------------------------------------------------------------


def siamese_augment(x: Tensor, parameters: Tensor) -> Tensor:
    """Augments groups of consecutive images, each group by one row of parameters.

    With parameters on the CPU only the images that an operation changes are touched by it. With parameters on
    a GPU, and under ``torch.compile``, every image goes through every operation, and nothing waits for the
    host.

    Args:
        x: [N, C, H, W], floating point, normalized so that 0 is the mean color.
        parameters: [G, 13] of :func:`siamese_draws`, with G a divisor of N: 1 for all images alike, the
            number of classes for images in class order, N for images that are each augmented alone.

    Returns:
        The augmented images, shaped as x and of its dtype; differentiable in x to every order, and the same
        bits each time.

    Raises:
        ValueError: shapes do not fit; or, of parameters on the CPU, a zoom or angle so strong that more than
            4 x 4 pixels of the result read one of x.
    """
    _check(x, parameters)
    if not x.numel():
        return x
    x = x.contiguous()
    precise = parameters.to(x.device, torch.promote_types(x.dtype, torch.float32))
    if parameters.device.type != "cpu" or torch.compiler.is_compiling():
        return _cut(_colored(_warped(x, precise), precise), precise)
    identity = parameters.new_tensor(IDENTITY)
    turned = (parameters[:, 6:9] != identity[6:9]).any(1) | (parameters[:, 3:5] % 1 != 0).any(1)
    moved = (parameters[:, 3:6] != 0).any(1) & ~turned
    x = _where(_where(x, turned, _warped, precise), moved, _moved, precise)
    x = _where(x, (parameters[:, :3] != identity[:3]).any(1), _colored, precise)
    return _where(x, parameters[:, 11] > parameters[:, 9], _cut, precise)

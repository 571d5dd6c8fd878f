"""Random-resized-crop, flip and roll of a batch of images as one linear operator.

    y = Wy x Wxt       Wy [S_h, H], Wx [S_w, W], one pair for each group of images

Row r of Wy holds the antialiased triangle filter of ``F.interpolate`` (bilinear, not aligned to
corners) for a crop [top, top + h) resized to S_h rows; flip and roll only change which row of
it an output row reads. In units of 1 / (2 S_h) of a pixel all distances are integers:

    Wy[r, j] ~ max(0, 2 max(h, S_h) - |(2 (j - top) + 1) S_h - (2 r + 1) h|)   for top <= j < top + h

normalized to sum one, so the weights are exact up to that one division, and a crop of its own
size is exactly the identity.

Shapes do not depend on the draw, so nothing recompiles, and the gradient is the transposed operator:
deterministic. Cost: on a GPU one kernel finds the weights and gathers, one read of x and one write of y, and
the gradient likewise (``gpu/resample.py``). Elsewhere N C (H W S_w + H S_h S_w) multiply-adds of two matrix
products; on a CPU, in eager mode and for large groups, a small part of that (``banded.py``). Where there is
nothing to resize, pixels are moved: exact on every device, whatever its matmul precision.

Draw outside a compiled step and pass the tensor in; :func:`resample` compiles as one graph.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from .autograd import Context
from .banded import banded_product
from .dispatch import HAS_TRITON, uses_triton
from .product import matmul

if HAS_TRITON:
    from .gpu.resample import LARGEST, resample_pass

TRIES = 10  # of torchvision's RandomResizedCrop, before it settles for a central crop
SMALL = (
    20_000_000  # multiply-adds of a group up to which a CPU is faster with one dense product for all groups
)

# -- reference -------------------------------------------------------------------------------------


def resample_reference(x: Tensor, parameters: Tensor, size: tuple[int, int] | None = None) -> Tensor:
    """The definition: crop, interpolate, flip and roll, one group after the other."""
    size = size or (x.shape[2], x.shape[3])
    groups = []
    for images, (flip, roll_y, roll_x, *crop) in zip(
        x.tensor_split(len(parameters)), parameters.tolist(), strict=True
    ):
        top, left, height, width = crop or (0, 0, *x.shape[2:])
        images = images[:, :, top : top + height, left : left + width]
        images = F.interpolate(images, size, mode="bilinear", align_corners=False, antialias=True)
        groups.append((images.flip(3) if flip else images).roll((roll_y, roll_x), (2, 3)))
    return torch.cat(groups)


# -- the draw --------------------------------------------------------------------------------------


def _check_images(x: Tensor) -> None:
    if x.ndim != 4 or 0 in x.shape[1:] or not x.is_floating_point():
        raise ValueError(f"x must be a floating-point [N, C, H, W], got {tuple(x.shape)} {x.dtype}")


def _check_range(name: str, value: tuple[float, float]) -> None:
    if not 0 < value[0] <= value[1]:
        raise ValueError(f"{name} must be (low, high) with 0 < low <= high, got {tuple(value)}")


def _check_scale(scale: tuple[float | Tensor, float], count: int) -> None:
    low, high = scale
    if isinstance(low, Tensor):
        if low.shape != (count,):
            raise ValueError(f"the low end of scale must be a number or [{count}], got {tuple(low.shape)}")
        for end in (low.min(), low.max()) if count else ():
            _check_range("scale", (float(end), high))
    else:
        _check_range("scale", (low, high))


def _central_crop(height: int, width: int, ratio: tuple[float, float]) -> tuple[int, int, int, int]:
    """Largest central crop (top, left, height, width) whose ratio width / height is allowed."""
    h, w = height, width
    if width / height < ratio[0]:
        h = round(width / ratio[0])
    elif width / height > ratio[1]:
        w = round(height * ratio[1])
    return (height - h) // 2, (width - w) // 2, h, w


def _crops(
    uniform: Tensor, height: int, width: int, scale: tuple[float | Tensor, float], ratio: tuple[float, float]
) -> Tensor:
    """Crops [count, 4] from uniform numbers [count, 2 * TRIES + 2] in [0, 1): the first try that fits."""
    area, log_ratio, place = uniform.split((TRIES, TRIES, 2), dim=1)
    low = scale[0].to(area).unsqueeze(1) if isinstance(scale[0], Tensor) else scale[0]
    area = height * width * (low + (scale[1] - low) * area)
    low, high = math.log(ratio[0]), math.log(ratio[1])
    aspect = (low + (high - low) * log_ratio).exp()
    w, h = (area * aspect).sqrt().round(), (area / aspect).sqrt().round()
    fits = (w > 0) & (w <= width) & (h > 0) & (h <= height)
    first = fits.int().argmax(1, keepdim=True)  # of equal values, the first
    shape = torch.cat((h.gather(1, first), w.gather(1, first)), dim=1)
    room = shape.new_tensor((height, width)) - shape
    start = torch.minimum((place * (room + 1)).floor(), room)
    central = shape.new_tensor(_central_crop(height, width, ratio))
    return torch.where(fits.any(1, keepdim=True), torch.cat((start, shape), dim=1), central)


def resample_parameters(
    count: int,
    height: int,
    width: int,
    scale: tuple[float | Tensor, float] | None = (0.08, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
    flip: float = 0.5,
    roll: tuple[int, int] = (0, 0),
    generator: torch.Generator | None = None,
) -> Tensor:
    """Draws the crop, flip and roll of ``count`` groups of images.

    Args:
        count: number of independent draws.
        height, width: of the images to be cropped, in pixels.
        scale: range of the crop's share of the area; None for no crop. The crop is drawn as torchvision's
            RandomResizedCrop does: ten tries, then the largest central one. The low end may be a tensor
            [count], one for each draw (a curriculum).
        ratio: range of the crop's width / height, drawn uniformly in its logarithm.
        flip: probability of a horizontal flip.
        roll: the cyclic shifts down and right are two independent integers, uniform in
            roll[0], ..., roll[1] - 1, in pixels of the result; with equal bounds always roll[0].
        generator: source of the numbers. A call takes as many whatever comes of them.

    Returns:
        int64 [count, 7] of (flip, roll_y, roll_x, top, left, height, width), or [count, 3] of
        the first three if scale is None; on the generator's device, or the CPU.

    Raises:
        ValueError: a size, range or probability is out of bounds.
    """
    if count < 0 or height < 1 or width < 1:
        raise ValueError(f"need count >= 0, height, width > 0, got {count}, {height}, {width}")
    if not 0 <= flip <= 1:
        raise ValueError(f"flip is a probability from 0 to 1, got {flip}")
    if roll[1] < roll[0]:
        raise ValueError(f"roll must be (low, high) with low <= high, got {tuple(roll)}")
    if scale is not None:
        _check_scale(scale, count)
        _check_range("ratio", ratio)
    device = torch.device("cpu") if generator is None else generator.device
    columns = 3 if scale is None else 3 + 2 * TRIES + 2
    uniform = torch.rand(count, columns, dtype=torch.float64, generator=generator, device=device)
    shift = roll[0] + (uniform[:, 1:3] * (roll[1] - roll[0])).floor()
    drawn = torch.cat((uniform[:, :1] < flip, shift), dim=1)
    if scale is not None:
        drawn = torch.cat((drawn, _crops(uniform[:, 3:], height, width, scale, ratio=ratio)), dim=1)
    return drawn.long()


# -- the operator ----------------------------------------------------------------------------------


def _source(size: int, roll: Tensor, flip: Tensor | None = None) -> Tensor:
    """Which row of the resized image each output row reads, [count, size]."""
    index = (torch.arange(size, device=roll.device) - roll[:, None]) % size
    return index if flip is None else torch.where(flip[:, None] != 0, size - 1 - index, index)


def _weights(source: Tensor, start: Tensor, length: Tensor, extent: int, dtype: torch.dtype) -> Tensor:
    """Resizing weights [count, size, extent]: a row for each entry of source [count, size]."""
    size = source.shape[1]
    row, start, length = source[:, :, None], start[:, None, None], length[:, None, None]
    pixel = torch.arange(extent, device=source.device) - start
    distance = ((2 * pixel + 1) * size - (2 * row + 1) * length).abs()
    reach = 2 * length.clamp(min=size)
    triangle = torch.where((pixel >= 0) & (pixel < length), (reach - distance).clamp(min=0), 0)
    return triangle.to(dtype) / triangle.sum(2, keepdim=True).to(dtype)


def _permute(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Pixels of x by row index [count, H] and column index [count, W] of their group."""
    count, (height, width) = rows.shape[0], x.shape[2:]
    index = (rows[:, :, None] * width + columns[:, None, :]).view(count, 1, height * width)
    planes = x.reshape(count, x.shape[0] // count * x.shape[1], height * width)
    return planes.gather(2, index.expand_as(planes)).view(x.shape)


def _apply(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Wy x Wxt for the weights rows [count, S_h, H] and columns [count, S_w, W] of each group."""
    n, channels, height, width = x.shape
    count, size = rows.shape[0], (rows.shape[1], columns.shape[1])
    planes = x.to(rows.dtype).reshape(count, n // count * channels, height, width)
    products = planes[0].numel() * size[1] + planes[0].numel() // width * size[0] * size[1]
    if x.is_cpu and not torch.compiler.is_compiling() and products > SMALL:
        return banded_product(planes, rows, columns).view(n, channels, *size).to(x.dtype)
    wide = matmul(planes.flatten(1, 2), columns.mT)
    shared = rows[:, None].expand(-1, planes.shape[1], -1, -1)
    return matmul(shared, wide.view(*planes.shape[:3], size[1])).view(n, channels, *size).to(x.dtype)


# -- one kernel, on a GPU ----------------------------------------------------------------------------

Options = tuple[int, int, bool]
"""height and width of the images that went in, and whether it was the transposed pass"""


def _empty(x: Tensor, height: int, width: int) -> Tensor:
    """Memory for images of another size in the layout of x."""
    last = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    layout = torch.channels_last if last else torch.contiguous_format
    return torch.empty((*x.shape[:2], height, width), dtype=x.dtype, device=x.device, memory_format=layout)


def _pass(x: Tensor, parameters: Tensor, height: int, width: int, transposed: bool) -> Tensor:
    out = _empty(x, height, width)
    if x.numel():
        resample_pass(x, parameters, out, transposed)
    return out


_pass_op = torch.library.custom_op("fastdd_kernels::resample", _pass, mutates_args=())


@_pass_op.register_fake
def _pass_fake(x: Tensor, parameters: Tensor, height: int, width: int, transposed: bool) -> Tensor:
    return _empty(x, height, width)


def _setup_context(
    ctx: Context[Options], inputs: tuple[Tensor, Tensor, int, int, bool], output: Tensor
) -> None:
    x, parameters, _, _, transposed = inputs
    ctx.options = x.shape[2], x.shape[3], transposed
    ctx.save_for_backward(parameters)


def _transpose(run: Callable[..., Tensor], ctx: Context[Options], grad: Tensor) -> tuple[Tensor | None, ...]:
    """The gradient by the images: the pass that is the transpose of this one."""
    height, width, transposed = ctx.options
    return run(grad, *ctx.saved_tensors, height, width, not transposed), *[None] * 4


def _op_backward(ctx: Context[Options], grad: Tensor) -> tuple[Tensor | None, ...]:
    return _transpose(_pass_op, ctx, grad)


_pass_op.register_autograd(_op_backward, setup_context=_setup_context)


class _Pass(torch.autograd.Function):
    forward = staticmethod(_pass)
    setup_context = staticmethod(_setup_context)

    @staticmethod
    def backward(ctx: Context[Options], *grads: Tensor) -> tuple[Tensor | None, ...]:
        return _transpose(_Pass.apply, ctx, grads[0])


# -- public functions --------------------------------------------------------------------------------


def resample(x: Tensor, parameters: Tensor, size: tuple[int, int] | None = None) -> Tensor:
    """Crops, resizes, flips and rolls images as ``parameters`` says; linear in x, and deterministic.

    Equal to ``resized_crop(antialias=True)`` then ``hflip`` of torchvision, then ``torch.roll``.

    Args:
        x: images [N, C, H, W], any float dtype; half precision is computed in float32.
        parameters: integers [count, 7] or [count, 3] from :func:`resample_parameters`, with count
            a divisor of N: each row serves N / count consecutive images. Crops must lie inside
            the image; that is not checked, since the numbers may be on another device.
        size: (height, width) of the result; those of x if not given.

    Returns:
        [N, C, *size] in the dtype of x. Without crop columns and with the size of x, pixels are
        moved and not computed: bitwise what ``torch.flip`` and ``torch.roll`` give.

    Raises:
        ValueError: x, parameters or size do not fit.
    """
    _check_images(x)
    if parameters.ndim != 2 or parameters.shape[1] not in (3, 7) or parameters.is_floating_point():
        raise ValueError(
            f"parameters must be integers [count, 7] or [count, 3], got {tuple(parameters.shape)} "
            f"{parameters.dtype}"
        )
    n, count = x.shape[0], parameters.shape[0]
    if count == 0 or n % count:
        raise ValueError(f"the rows of parameters must divide the {n} images, got {count}")
    height, width = x.shape[2:]
    out_height, out_width = size or (height, width)
    if out_height < 1 or out_width < 1:
        raise ValueError(f"size must be positive, got {size}")
    if uses_triton(x) and max(height, width, out_height, out_width) <= LARGEST:
        run = _pass_op if torch.compiler.is_compiling() else _Pass.apply
        result: Tensor = run(x, parameters.to(x.device).contiguous(), out_height, out_width, False)
        return result
    flip, roll_y, roll_x, *crop = parameters.to(x.device, torch.int64).unbind(1)
    rows, columns = _source(out_height, roll_y), _source(out_width, roll_x, flip)
    if not crop and (out_height, out_width) == (height, width):
        return _permute(x, rows, columns)
    zero = torch.zeros_like(flip)
    top, left, crop_height, crop_width = crop or (zero, zero, zero + height, zero + width)
    dtype = torch.promote_types(x.dtype, torch.float32)
    return _apply(
        x,
        _weights(rows, top, crop_height, height, dtype=dtype),
        _weights(columns, left, crop_width, width, dtype=dtype),
    )


def random_resample(
    x: Tensor,
    size: tuple[int, int] | None = None,
    scale: tuple[float, float] | None = (0.08, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
    flip: float = 0.5,
    roll: tuple[int, int] = (0, 0),
    count: int = 1,
    generator: torch.Generator | None = None,
) -> Tensor:
    """:func:`resample` by a fresh draw of :func:`resample_parameters`.

    ``count`` is the number of independent draws, a divisor of N: 1 treats the whole batch alike
    (the behaviour of released recover code), ``len(x)`` gives every image its own.
    """
    _check_images(x)
    height, width = x.shape[2:]
    parameters = resample_parameters(
        count, height, width, scale, ratio=ratio, flip=flip, roll=roll, generator=generator
    )
    return resample(x, parameters, size)

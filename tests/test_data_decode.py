"""fastdd.data: formats, damage, resizing, `check`, and the real test archives."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from galleries import pixels
from torch import Tensor
from torchvision.transforms import v2

from fastdd.data import check, open_dataset
from fastdd.data.decode import decode, fit
from fastdd.data.verify import MAX_PIXELS, BadImage, verify
from fastdd.errors import InputError

Image = pytest.importorskip("PIL.Image", reason="PIL writes the test images")


def smooth(height: int = 37, width: int = 50) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 5, y * 6, x + y], -1).astype(np.uint8)


def encoded(pixels: np.ndarray, kind: str, convert: str | None = None, **options: object) -> bytearray:
    image = Image.fromarray(pixels)
    buffer = io.BytesIO()
    (image.convert(convert) if convert else image).save(buffer, kind, **options)
    return bytearray(buffer.getvalue())


def by_pil(data: bytearray, mode: str) -> Tensor:
    pixels = np.array(Image.open(io.BytesIO(data)).convert(mode))
    return torch.from_numpy(pixels.reshape(*pixels.shape[:2], -1)).permute(2, 0, 1)


# -- formats --------------------------------------------------------------------------------------


@pytest.mark.parametrize("convert", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("progressive", [False, True])
def test_jpegs_are_pils_pixels(convert: str, progressive: bool) -> None:
    data = encoded(smooth(), "JPEG", convert, progressive=progressive)
    assert verify(data) == (37, 50)
    assert torch.equal(decode(data, 3), by_pil(data, "RGB"))


@pytest.mark.parametrize("convert", ["RGB", "RGBA", "L", "LA", "P", "1"])
def test_pngs_are_pils_pixels(convert: str) -> None:
    data = encoded(smooth(), "PNG", convert)
    assert verify(data) == (37, 50)
    assert torch.equal(decode(data, 3), by_pil(data, "RGB"))


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_luminance(kind: str) -> None:
    data = encoded(smooth(), kind)
    grey = decode(data, 1)
    assert grey.shape == (1, 37, 50)
    # ITU-R 601 from the colors: the JPEG's own luminance plane, or rounded once more.
    assert int((grey.int() - by_pil(data, "L").int()).abs().max()) <= 1


def test_sixteen_bits_are_rounded_to_eight() -> None:
    values = np.arange(0, 65536, 16, dtype=np.uint16).reshape(64, 64)
    expected = np.rint(values.astype(np.float64) * 255 / 65535)
    got = decode(encoded(values, "PNG"), 3)
    assert got.dtype == torch.uint8
    assert torch.equal(got[1].double(), torch.from_numpy(expected))


def sixteen_bits(values: np.ndarray, color: int) -> bytearray:
    """A PNG of 16-bit numbers [H, W, samples], which PIL does not write in color."""
    rows = b"".join(b"\0" + row.tobytes() for row in values.astype(">u2"))
    return png(*values.shape[:2], rows, depth=16, color=color)


@pytest.mark.parametrize(("color", "samples"), [(0, 1), (2, 3), (4, 2), (6, 4)])
@pytest.mark.parametrize("channels", [1, 3])
def test_sixteen_bits_of_every_kind_are_rounded(color: int, samples: int, channels: int) -> None:
    values = np.random.default_rng(0).integers(0, 65536, (5, 7, samples), dtype=np.uint16)
    levels = torch.from_numpy(np.rint(values * 255.0 / 65535)).permute(2, 0, 1)
    shown = levels[:1].expand(3, -1, -1) if samples < 3 else levels[:3]
    if channels == 1:
        shown = torch.tensordot(torch.tensor([0.299, 0.587, 0.114]).double(), shown, 1)[None]
    got = decode(sixteen_bits(values, color), channels)
    assert got.dtype == torch.uint8
    assert float((got - shown).abs().max()) <= (1 if channels == 1 and samples > 2 else 0.5)


@pytest.mark.parametrize("transparency", [3, bytes(range(256))])
def test_transparency_of_a_palette_is_dropped_as_pil_drops_it(transparency: int | bytes) -> None:
    data = encoded(smooth(), "PNG", "P", transparency=transparency)
    assert torch.equal(decode(data, 3), by_pil(data, "RGB"))


def test_of_several_pictures_in_a_jpeg_the_first_is_taken_as_pil_takes_it() -> None:
    """Telephones add a second picture of depth or brightness."""
    other = Image.fromarray(smooth()[::-1].copy())
    data = encoded(smooth(), "MPO", save_all=True, append_images=[other])
    assert torch.equal(decode(data, 3), by_pil(data, "RGB"))


@pytest.mark.parametrize("kind", ["PNG", "GIF", "WEBP"])
def test_animations_are_refused(kind: str) -> None:
    frames = [Image.fromarray(smooth()[:, :: 1 - 2 * turned].copy()) for turned in (1, 0, 1)]
    data = encoded(smooth(), kind, save_all=True, append_images=frames)
    told = "is an animated PNG of 4 frames" if kind == "PNG" else "is neither a JPEG nor a PNG"
    with pytest.raises(BadImage, match=told):
        decode(data, 3)


def test_exif_orientation_is_not_applied() -> None:
    exif = Image.Exif()
    exif[0x112] = 6  # turn by 90 degrees
    plain, turned = encoded(smooth(), "JPEG"), encoded(smooth(), "JPEG", exif=exif)
    assert torch.equal(decode(turned, 3), decode(plain, 3))


# -- damage ---------------------------------------------------------------------------------------


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(
    height: int, width: int, rows: bytes, depth: int = 8, color: int = 0, interlaced: int = 0
) -> bytearray:
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, interlaced)
    chunks = (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b""))
    return bytearray(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))


def png_without_stream_end() -> bytearray:
    """All the pixels, but neither the last deflate block's end nor the checksum after it."""
    stream = zlib.compressobj(0)
    content = stream.compress(b"\0ab\0ab") + stream.flush(zlib.Z_SYNC_FLUSH)
    whole = png(2, 2, b"")
    at = whole.index(b"IDAT") - 4
    return whole[:at] + chunk(b"IDAT", content) + chunk(b"IEND", b"")


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("keep", [2, 10, 30, 0.3, 0.5, 0.9, -14])
def test_cut_files(kind: str, keep: float) -> None:
    data = encoded(smooth(), kind)
    data = data[: int(keep * len(data)) if 0 < keep < 1 else int(keep)]
    with pytest.raises(BadImage, match=r"cut short|truncated|neither"):
        decode(data, 3)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "is empty"),
        (b"hello, this is text", "neither a JPEG nor a PNG"),
        (b"\xff\xd8\xff\xd9" + bytes(20), "without a frame header"),
        (png(0, 5, b""), "size of 0 x 5"),
        (png(13000, 13000, b"\0" * 100), "13000 x 13000 pixels, more than the limit of .*; scale it down"),
        (png(60000, 60000, b"\0" * 100), f"60000 x 60000 pixels, more than the limit of {MAX_PIXELS:,}"),
        (png(2, 2, b"\0ab"), "exactly 6 bytes"),
        (png(2, 2, b"\0ab\5ab"), "row filter"),
        (png(2, 2, b"\0ab\0abc"), "exactly 6 bytes"),
        (png_without_stream_end(), "exactly 6 bytes"),
        (png(2, 2, b"\0ab\0ab", color=5), "color type 5"),
        (b"\xff\xd8\xff\xc0\x00\x11\x08\xff\xff\xff\xff\x03" + bytes(20), "65535 x 65535 pixels"),
    ],
)
def test_bad_bytes(data: bytes, expected: str) -> None:
    with pytest.raises(BadImage, match=expected):
        decode(bytearray(data), 3)


def test_any_flipped_byte_of_a_png_is_found_before_decoding() -> None:
    """torchvision's decoder would end the process (a segmentation fault) on most of these."""
    data = encoded(smooth(12, 9), "PNG")
    for at in range(8, len(data) - 12):
        bad = bytearray(data)
        bad[at] ^= 0xFF
        with pytest.raises(BadImage):
            verify(bad)


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 2), (5, 9), (8, 8), (13, 21)])
def test_png_size_of_the_pixel_stream(depth: int, height: int, width: int) -> None:
    """Exactly enough bytes pass and decode; one byte less is refused."""
    rows = bytes(height * (1 + (width * depth + 7) // 8))
    assert decode(png(height, width, rows, depth), 1).shape == (1, height, width)
    with pytest.raises(BadImage, match="exactly"):
        verify(png(height, width, rows[:-1], depth))


@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 2), (5, 9), (8, 8), (13, 21)])
def test_interlaced_png(height: int, width: int) -> None:
    # The passes of the PNG specification, written out pixel by pixel.
    pattern = np.array(
        [
            [1, 6, 4, 6, 2, 6, 4, 6],
            [7] * 8,
            [5, 6] * 4,
            [7] * 8,
            [3, 6, 4, 6, 3, 6, 4, 6],
            [7] * 8,
            [5, 6] * 4,
            [7] * 8,
        ]
    )
    passes = pattern[np.arange(height)[:, None] % 8, np.arange(width) % 8]
    values = np.random.default_rng(0).integers(0, 256, (height, width), dtype=np.uint8)
    stream = b"".join(
        b"\0" + values[y][passes[y] == number].tobytes()
        for number in range(1, 8)
        for y in range(height)
        if (passes[y] == number).any()
    )
    assert torch.equal(decode(png(height, width, stream, interlaced=1), 1)[0], torch.from_numpy(values))
    with pytest.raises(BadImage, match="exactly"):
        verify(png(height, width, stream[:-1], interlaced=1))


def test_jpeg_header_walk() -> None:
    data = encoded(smooth(), "JPEG")
    thumbnail = encoded(smooth(4, 4), "JPEG")
    application = b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 2) + thumbnail  # a frame header inside
    assert verify(data[:2] + application + b"\xff\xff" + data[2:]) == (37, 50)  # and fill bytes


# -- resizing -------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(37, 50), (50, 37), (32, 32), (16, 16), (33, 97), (31, 200)])
def test_fit_is_torchvisions_evaluation_transform(shape: tuple[int, int]) -> None:
    image = torch.randint(0, 256, (3, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    expected = v2.Compose([v2.Resize(32, antialias=True), v2.CenterCrop(32)])(image)
    assert torch.equal(fit(image, (32, 32)), expected)


@pytest.mark.parametrize("shape", [(1, 300), (300, 1), (2, 301), (3, 1000), (1000, 3)])
def test_a_very_long_image_is_cut_to_its_middle_before_the_resize(shape: tuple[int, int]) -> None:
    image = torch.randint(0, 256, (3, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    expected = v2.Compose([v2.Resize(8, antialias=True), v2.CenterCrop(8)])(image)
    assert (fit(image, (8, 8)).int() - expected.int()).abs().max() <= 1


@pytest.mark.parametrize("shape", [(1, 20000), (20000, 1), (1, 60000)])
def test_one_row_or_column_of_pixels_takes_little_memory(shape: tuple[int, int]) -> None:
    """Resized as a whole, the second would have 4,480,000 x 224 pixels: 3 GB in each channel and more."""
    image = torch.full((3, *shape), 7, dtype=torch.uint8)
    assert torch.equal(decode(encoded(image.permute(1, 2, 0).numpy(), "PNG"), 3), image)
    for out in (fit(image, (224, 224)), fit(image, (224, 224), 256)):
        assert out.shape == (3, 224, 224)
        assert (out == 7).all()
        assert out.untyped_storage().nbytes() < 16 * 3 * 256 * 256 + 1


def test_too_little_memory_is_no_fault_of_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*arguments: object, **options: object) -> Tensor:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes.")

    monkeypatch.setattr("fastdd.data.decode.decode_image", fails)
    with pytest.raises(MemoryError):
        decode(encoded(smooth(), "PNG"), 3)


@pytest.mark.parametrize("shape", [(37, 50), (50, 37), (8, 90), (90, 8), (24, 40)])
def test_fit_covers_a_rectangle(shape: tuple[int, int]) -> None:
    image = torch.full((3, *shape), 7, dtype=torch.uint8)
    out = fit(image, (24, 40))
    assert out.shape == (3, 24, 40)
    assert (out == 7).all()  # no padding anywhere


# -- check ----------------------------------------------------------------------------------------


def test_check_lists_everything(tmp_path: Path) -> None:
    good = bytes(encoded(smooth(), "JPEG"))
    files = {
        "train/cat/ok.JPEG": bytes(encoded(smooth(), "PNG")),
        "train/cat/cut.jpg": good[: len(good) // 2],
        "train/cat/empty.jpg": b"",
        "train/dog/ok.jpg": good,
        "train/dog/text.jpg": b"not an image",
        "train/dog/clip.mp4": b"x",
        "train/owl/ok.jpg": good,
        "test/cat/ok.jpg": good,
        "test/dog/cut.png": bytes(encoded(smooth(), "PNG"))[:-30],
    }
    for path, content in files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(content)
    problems = [str(problem) for problem in check(tmp_path)]
    assert len(problems) == len(set(problems)) == 6
    for name in ("cat/cut.jpg", "cat/empty.jpg", "dog/text.jpg", "dog/clip.mp4", "dog/cut.png", "'owl'"):
        assert sum(name in problem for problem in problems) == 1, name
    with pytest.raises(InputError, match=r"clip.mp4.*1 more"):
        open_dataset(tmp_path, "train")


def test_check_reports_a_missing_split_and_refuses_a_missing_root(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / "train" / name).mkdir(parents=True)
        (tmp_path / "train" / name / "1.png").write_bytes(encoded(smooth(), "PNG"))
    (problem,) = check(tmp_path)
    assert problem.where == "test"
    assert "no test/, val/, validation/ or valid/ folder" in problem.what
    with pytest.raises(InputError, match="no data"):
        check(tmp_path / "nowhere")
    assert check("digits") == []


# -- the real archives ----------------------------------------------------------------------------


def test_cifar10(test_data: Callable[[str], Path]) -> None:
    data = open_dataset(test_data("cifar10.tar.xz"), "test")
    assert data.classes[:2] == ("airplane", "automobile")
    assert data.counts == (1000,) * 10
    images = pixels(data, None)
    assert images.shape == (10000, 3, 32, 32)
    mean = images.double().mean((0, 2, 3)) / 255
    # The training mean is [0.4913, 0.4821, 0.4465]; a mean of 10,000 images is within 0.01 of it.
    torch.testing.assert_close(mean, torch.tensor([0.4913, 0.4821, 0.4465]).double(), atol=0.01, rtol=0)


def test_imagenette(test_data: Callable[[str], Path]) -> None:
    train, val = (open_dataset(test_data("imagenette224.tar"), split) for split in ("train", "val"))  # type: ignore[arg-type]
    assert (train.counts, val.counts) == ((400,) * 10, (100,) * 10)
    assert val.names[0].startswith("n01440764/")
    chosen = list(range(0, 1000, 50))
    full = pixels(val, None, indices=chosen)
    assert full.shape == (20, 3, 224, 224)
    small = pixels(val, (64, 64), indices=chosen)
    assert torch.equal(small, torch.stack([fit(image, (64, 64)) for image in full]))


def test_imagenet_samples_have_no_splits(test_data: Callable[[str], Path]) -> None:
    with pytest.raises(InputError, match=r"no train/ folder; found 'imagenet_samples'"):
        open_dataset(test_data("imagenet_samples.tar"), "train")

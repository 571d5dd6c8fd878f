"""fastdd.data loaders: order, shards, resume, equal pixels from both backends, windows, bad files."""

from __future__ import annotations

import io
import math
import tarfile
from collections import Counter
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from galleries import pixels
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2

import fastdd
from fastdd.data import Batch, Crop, Dataset, open_dataset, open_loader, resident
from fastdd.data.loading.loader import dali_installed
from fastdd.errors import InputError
from fastdd.runtime import memory

NO_DALI = pytest.mark.skipif(not dali_installed(), reason="nvidia-dali is not installed")
DALI = pytest.param("dali", marks=NO_DALI)
BACKENDS = pytest.mark.parametrize("backend", ["torchvision", DALI])


def picture(seed: int, height: int, width: int) -> np.ndarray:
    """Waves and noise: edges at the border, where the filters of two libraries may differ."""
    y, x = np.mgrid[:height, :width]
    waves = np.stack([np.sin(x / 3 + seed), np.cos(y / 4), np.sin((x + y) / (5 + seed % 3))], -1)
    noise = np.random.default_rng(seed).normal(0, 20, waves.shape)
    return np.clip(128 + 100 * waves + noise, 0, 255).astype(np.uint8)


def encoded(pixels: np.ndarray, kind: str = "JPEG", convert: str | None = None, **options: Any) -> bytes:
    image = Image.fromarray(pixels)
    buffer = io.BytesIO()
    (image.convert(convert) if convert else image).save(buffer, kind, **options)
    return buffer.getvalue()


def turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x112] = 6
    return exif


def write(root: Path, files: dict[str, bytes]) -> Path:
    for path, content in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)
    return root


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Every kind of file that people have, between plain photographs; all of different sizes."""
    deep = np.arange(70 * 90, dtype=np.uint16).reshape(70, 90) * 10
    files = {
        "cat/a.jpg": encoded(picture(0, 90, 70)),
        "cat/cmyk.jpg": encoded(picture(1, 64, 81), convert="CMYK"),
        "cat/deep.png": encoded(deep, "PNG"),
        "cat/exif.jpg": encoded(picture(2, 60, 99), exif=turned()),
        "dog/a.jpg": encoded(picture(3, 48, 48), quality=95, subsampling=0),
        "dog/b.jpg": encoded(picture(4, 131, 40)),
        "dog/grey.jpg": encoded(picture(5, 77, 77), convert="L"),
        "dog/named.JPEG": encoded(picture(6, 55, 66), "PNG"),
        "owl/alpha.png": encoded(picture(7, 50, 50), "PNG", "RGBA"),
        "owl/palette.png": encoded(picture(8, 50, 60), "PNG", "P"),
        "owl/progressive.jpg": encoded(picture(9, 64, 128), progressive=True),
    }
    root = tmp_path_factory.mktemp("zoo")
    return open_dataset(write(root, {f"train/{name}": content for name, content in files.items()}), "train")


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory, test_data: Callable[[str], Path]) -> Dataset:
    """The 250 ImageNet photographs of the shared data, as a training split."""
    root = tmp_path_factory.mktemp("photographs")
    with tarfile.open(test_data("imagenet_samples.tar")) as tar:
        tar.extractall(root, filter="data")
    (root / "imagenet_samples").rename(root / "train")
    return open_dataset(root, "train")


def images(batches: list[Batch]) -> Tensor:
    return torch.cat([batch.images for batch in batches])


def positions(batches: list[Batch]) -> list[int]:
    return [index for batch in batches for index in batch.indices.tolist()]


def same(a: list[Batch], b: list[Batch]) -> bool:
    return len(a) == len(b) and all(
        torch.equal(x.images, y.images)
        and torch.equal(x.labels, y.labels)
        and torch.equal(x.indices, y.indices)
        for x, y in zip(a, b, strict=True)
    )


# -- order, shards, resume ------------------------------------------------------------------------


@pytest.mark.parametrize("world", [1, 2, 3, 7])
@pytest.mark.parametrize("order", ["class", "shuffled"])
def test_every_image_exactly_once_over_the_shards(world: int, order: Any) -> None:
    data = open_dataset("digits", "test")
    seen: Counter[int] = Counter()
    for rank in range(world):
        loader = open_loader(data, 16, None, 1, order=order, shard=(rank, world))
        batches = list(loader)
        each = 16 if order == "class" else len(range(rank, 16, world))
        assert [len(batch.images) for batch in batches[:-1]] == [each] * (len(batches) - 1)
        assert sum(len(batch.images) for batch in batches) == len(loader)
        here = positions(batches)
        if order == "class":
            assert here == list(range(here[0], here[0] + len(here)))
        assert torch.equal(torch.cat([batch.labels for batch in batches]), data.labels[here])
        assert torch.equal(images(batches), pixels(data, None, 1, here))
        seen.update(here)
    assert seen == Counter(range(len(data)))


def test_shards_of_a_permutation_are_shares_of_the_batches_of_one_process() -> None:
    data = open_dataset("digits", "test")

    def read(rank: int, world: int) -> list[list[int]]:
        loader = open_loader(data, 16, None, 1, order="shuffled", seed=5, shard=(rank, world), drop_last=True)
        return [batch.indices.tolist() for batch in loader]

    shards = [read(rank, 3) for rank in range(3)]
    assert [[*a, *b, *c] for a, b, c in zip(*shards, strict=True)] == read(0, 1)
    assert {tuple(map(len, shard)) for shard in shards} == {(6,) * 22, (5,) * 22}
    with pytest.raises(InputError, match="batch size 2 leaves some of 3 shards without an image"):
        open_loader(data, 2, None, 1, order="shuffled", shard=(0, 3))


@BACKENDS
def test_order_indices_and_drop_last(zoo: Dataset, backend: Any) -> None:
    chosen = [9, 0, 0, 5, 3, 7, 8]
    whole = pixels(zoo, (24, 24))
    batches = list(open_loader(zoo, 3, (24, 24), indices=chosen, backend=backend))
    assert positions(batches) == chosen
    assert [len(batch.images) for batch in batches] == [3, 3, 1]
    assert int((images(batches).int() - whole[chosen].int()).abs().max()) <= 1
    loader = open_loader(zoo, 3, (24, 24), indices=chosen, backend=backend, drop_last=True)
    assert len(loader) == 6
    assert positions(list(loader)) == chosen[:6]
    assert list(open_loader(zoo, 3, (24, 24), indices=[], backend=backend)) == []


def test_shuffling_depends_on_seed_and_epoch_alone() -> None:
    data = open_dataset("digits", "test")

    def order(seed: int, batch_size: int = 50) -> list[list[int]]:
        loader = open_loader(data, batch_size, None, 1, order="shuffled", seed=seed)
        return [positions(list(loader)) for _ in range(2)]

    first, second = order(0)
    assert first != second != sorted(second)
    assert order(0, 64) == [first, second]
    assert order(1)[0] != first


@BACKENDS
@pytest.mark.parametrize("after", [0, 1, 3, 4])
def test_resume_in_the_middle_of_an_epoch(zoo: Dataset, backend: Any, after: int) -> None:
    def opened() -> Any:
        return open_loader(zoo, 3, (20, 28), order="shuffled", crop=Crop(), seed=5, backend=backend)

    loader = opened()
    whole = [*loader, *loader]
    assert len(whole) == 8
    interrupted = opened()
    assert same(list(islice(interrupted, after)), whole[:after])
    state = interrupted.state_dict()
    assert state == {"epoch": 0, "position": min(3 * after, 11), "images": 11, "seed": 5}
    loader = opened()
    loader.load_state_dict(state)
    assert same([*loader, *loader], whole[after:])
    assert loader.state_dict()["epoch"] == 2


@BACKENDS
def test_a_loop_left_early_goes_on_where_it_was(zoo: Dataset, backend: Any) -> None:
    loader = open_loader(zoo, 2, (16, 16), backend=backend)
    whole = list(open_loader(zoo, 2, (16, 16), backend=backend))
    first = next(iter(loader))
    assert same([first, *loader, *loader], whole + whole)


def test_a_state_of_other_images_is_refused(zoo: Dataset) -> None:
    loader = open_loader(zoo, 2, (16, 16))
    for change, expected in (
        ({"images": 12}, "images 12, this loader 11"),
        ({"seed": 1}, "seed 1"),
        ({"position": 12}, "outside"),
        ({"epoch": -1}, "outside"),
        ({"extra": 1}, "expected integers epoch, position"),
        ({"epoch": "1"}, "expected integers"),
    ):
        with pytest.raises(InputError, match=expected):
            loader.load_state_dict({**loader.state_dict(), **change})


# -- pixels ---------------------------------------------------------------------------------------


def by_torchvision(data: Dataset, index: int, resize: int, size: int) -> Tensor:
    with Image.open(io.BytesIO(data.reader.encoded(index) or b"")) as image:
        pixels = torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)
    return v2.Compose([v2.Resize(resize, antialias=True), v2.CenterCrop(size)])(pixels)


def test_photographs_are_torchvisions_bit_for_bit(photographs: Dataset) -> None:
    for resize in (256, None):
        (batch,) = open_loader(photographs, 25, (224, 224), resize=resize, indices=range(0, 250, 10))
        expected = [by_torchvision(photographs, i, resize or 224, 224) for i in batch.indices.tolist()]
        assert torch.equal(batch.images, torch.stack(expected))


def test_a_run_with_a_decoder_that_is_not_installed_is_refused_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastdd.data.loading.loader.dali_installed", lambda: False)
    said = r"^data.backend 'dali' is not installed; pip install 'fastdd\[dali\]', or set data.backend to 'tor"
    with pytest.raises(InputError, match=said):
        fastdd.run("digits", tmp_path / "out", ["data.backend=dali"])
    assert not (tmp_path / "out").exists()


@NO_DALI
@pytest.mark.parametrize(
    ("step", "options"),
    [
        (1, {"size": (224, 224), "resize": 256}),
        (4, {"size": (224, 224)}),
        (8, {"size": (300, 100)}),
        (8, {"size": (1, 3)}),
        (3, {"size": (224, 224), "crop": Crop()}),
        (8, {"size": (32, 48), "crop": Crop(flip=1.0)}),
        (8, {"size": (64, 64), "resize": 65, "channels": 1}),
    ],
)
def test_backends_agree_on_photographs(photographs: Dataset, step: int, options: Any) -> None:
    """To one level everywhere, the border included; windows and flips are the same too."""
    chosen = range(0, 250, step)
    loaders = [
        open_loader(photographs, 50, indices=chosen, backend=name, **options)
        for name in ("torchvision", "dali")
    ]
    assert [loader.backend.split()[0] for loader in loaders] == ["torchvision", "dali"]
    ours, dalis = (images(list(loader)) for loader in loaders)
    assert len(ours) == len(chosen)
    assert dalis.is_contiguous()
    assert int((ours.int() - dalis.int()).abs().max()) <= 1


@NO_DALI
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("options", [{}, {"resize": 40}, {"crop": Crop()}])
def test_backends_agree_on_every_kind_of_file(zoo: Dataset, channels: Any, options: Any) -> None:
    ours, dalis = (
        images(list(open_loader(zoo, 4, (32, 32), channels, backend=name, **options)))
        for name in ("torchvision", "dali")
    )
    difference = (ours.int() - dalis.int()).abs().flatten(1).amax(1)
    assert dict(zip(zoo.names, difference.tolist(), strict=True)) == {
        name: pytest.approx(0, abs=1) for name in zoo.names
    }


@BACKENDS
@pytest.mark.parametrize("channels", [1, 3])
def test_images_without_encoded_bytes(backend: Any, channels: Any) -> None:
    data = open_dataset("digits", "test")
    chosen = list(range(0, 359, 40))
    for size in (None, (16, 16)):
        batches = list(open_loader(data, 4, size, channels, indices=chosen, backend=backend))
        assert torch.equal(images(batches), pixels(data, size, channels, chosen))


@BACKENDS
def test_as_stored(tmp_path: Path, backend: Any) -> None:
    files = {f"train/{'ab'[i % 2]}/{i}.jpg": encoded(picture(i, 20, 30)) for i in range(5)}
    data = open_dataset(write(tmp_path, files), "train")
    expected = [
        torch.from_numpy(np.array(Image.open(io.BytesIO(files[f"train/{name}"])))) for name in data.names
    ]
    batches = list(open_loader(data, 2, None, backend=backend))
    assert torch.equal(images(batches), torch.stack(expected).permute(0, 3, 1, 2))
    write(tmp_path, {"train/b/7.jpg": encoded(picture(7, 30, 20))})
    with pytest.raises(InputError, match=r"b/7.jpg.*30 x 20.*20 x 30.*data\.size"):
        list(open_loader(open_dataset(tmp_path, "train"), 2, None, backend=backend, on_error="skip"))


# -- windows --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("height", "width", "crop"),
    [(375, 500, Crop()), (500, 333, Crop((0.3, 0.5), (0.5, 2.0), 0.2)), (60, 300, Crop((0.2, 1.0)))],
)
def test_windows_are_distributed_as_torchvisions(height: int, width: int, crop: Crop) -> None:
    """Two-sample Kolmogorov-Smirnov on everything a window is, with fixed seeds."""
    stats = pytest.importorskip("scipy.stats")
    torch.manual_seed(0)
    count = 3000
    blank = torch.empty(1, height, width)
    transform = v2.RandomResizedCrop(32, scale=crop.scale, ratio=crop.ratio)
    theirs = []
    for _ in range(count):
        drawn = transform.make_params([blank])
        theirs.append([drawn[name] for name in ("top", "left", "height", "width")])
    drawn_by_us = [
        crop.window(height, width, seed=1, epoch=2, position=position) for position in range(count)
    ]
    ours, reference = np.array(drawn_by_us, float)[:, :4], np.array(theirs, float)
    for of in (
        lambda w: w[:, 2] * w[:, 3],
        lambda w: w[:, 3] / w[:, 2],
        lambda w: w[:, 0] / np.maximum(1, height - w[:, 2]),
        lambda w: w[:, 1] / np.maximum(1, width - w[:, 3]),
    ):
        assert stats.ks_2samp(of(ours), of(reference)).pvalue > 0.01
    flips = sum(window.flip for window in drawn_by_us)
    assert abs(flips - count * crop.flip) < 4 * math.sqrt(count * crop.flip * (1 - crop.flip))
    assert (ours[:, 0] + ours[:, 2]).max() <= height
    assert (ours[:, 1] + ours[:, 3]).max() <= width
    assert ours[:, :2].min() >= 0


def test_windows_are_independent_of_each_other() -> None:
    crop = Crop()
    base = crop.window(300, 400, seed=0, epoch=0, position=0)
    assert crop.window(300, 400, seed=0, epoch=0, position=0) == base
    keys = ((1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 1))
    others = {crop.window(300, 400, seed=s, epoch=e, position=p) for s, e, p in keys}
    assert len(others | {base}) == 5
    shares = np.array(
        [
            [crop.window(1000, 1000, seed=0, epoch=epoch, position=p).height for p in range(500)]
            for epoch in (0, 1)
        ]
    )
    assert abs(np.corrcoef(shares[0], shares[1])[0, 1]) < 0.15
    assert abs(np.corrcoef(shares[0, :-1], shares[0, 1:])[0, 1]) < 0.15


def test_impossible_ratios_give_torchvisions_central_window() -> None:
    for height, width in ((10, 200), (200, 10)):
        theirs = v2.RandomResizedCrop(8, scale=(0.9, 1.0)).make_params([torch.empty(1, height, width)])
        window = Crop((0.9, 1.0)).window(height, width, seed=0, epoch=0, position=0)
        assert tuple(window[:4]) == tuple(theirs[name] for name in ("top", "left", "height", "width"))


@pytest.mark.parametrize("crop", [{"scale": (0, 1)}, {"scale": (0.5, 0.1)}, {"ratio": (2, 1)}, {"flip": 1.5}])
def test_impossible_crops(crop: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=f"crop {next(iter(crop))}"):
        Crop(**crop)


# -- files that cannot be read --------------------------------------------------------------------

GOOD = encoded(picture(0, 60, 60))
TABLES = bytearray(GOOD)  # Huffman tables with more codes than there can be: the header and the end are sound
TABLES[TABLES.index(b"\xff\xc4") + 5 : TABLES.index(b"\xff\xc4") + 21] = b"\xff" * 16
BAD = {
    "empty": b"",
    "text": b"not an image",
    "header": GOOD[:100],
    "half": GOOD[: len(GOOD) // 2],
    "tables": bytes(TABLES),
    "png": encoded(picture(0, 60, 60), "PNG")[:-40],
    "missing": None,
}


@BACKENDS
@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("at", [0, 3, 4, 8])
def test_bad_files(tmp_path: Path, backend: Any, kind: str, at: int) -> None:
    """Named by "fail"; left out and recorded by "skip", and the others are what they would be without it."""
    names = [f"train/{'ab'[i // 5]}/{i}.jpg" for i in range(9)]
    root = write(tmp_path, {name: encoded(picture(i, 50 + i, 60)) for i, name in enumerate(names)})
    clean = images(list(open_loader(open_dataset(root, "train"), 4, (32, 32), backend=backend)))
    content = BAD[kind]
    (root / names[at]).write_bytes(b"x" if content is None else content)
    data = open_dataset(root, "train")
    if content is None:
        (root / names[at]).unlink()
    with pytest.raises(InputError, match=names[at]):
        list(open_loader(data, 4, (32, 32), backend=backend))
    loader = open_loader(data, 4, (32, 32), backend=backend, on_error="skip")
    for number in range(2):
        batches = list(loader)
        assert positions(batches) == [i for i in range(9) if i != at], number
        assert torch.equal(images(batches), clean[torch.arange(9) != at])
        assert torch.cat([batch.labels for batch in batches]).tolist() == [0] * (5 - (at < 5)) + [1] * (
            4 - (at > 4)
        )
        given = [position for batch in batches for position in batch.skipped]
        assert given == [at]  # the last is alone in its batch, which is empty
        assert list(loader.skipped) == [at]
        assert names[at] in loader.skipped[at]


@BACKENDS
def test_bytes_flipped_inside_a_jpeg_still_decode(tmp_path: Path, backend: Any) -> None:
    damaged = bytearray(GOOD)
    damaged[-200:-190] = bytes(10)
    data = open_dataset(write(tmp_path, {"train/a/1.jpg": GOOD, "train/b/1.jpg": bytes(damaged)}), "train")
    assert sum(len(batch.images) for batch in open_loader(data, 2, (32, 32), backend=backend)) == 2


@BACKENDS
def test_resume_among_bad_files(tmp_path: Path, backend: Any) -> None:
    bad = (1, 2, 3, 7)
    files = {f"train/{'ab'[i // 5]}/{i}.jpg": bytes(TABLES) if i in bad else GOOD for i in range(9)}
    data = open_dataset(write(tmp_path, files), "train")

    def opened() -> Any:
        return open_loader(data, 3, (16, 16), on_error="skip", backend=backend)

    whole = list(opened())
    interrupted = opened()
    next(iter(interrupted))
    loader = opened()
    loader.load_state_dict(interrupted.state_dict())
    assert same(list(loader), whole[1:])
    assert positions(whole) == [0, 4, 5, 6, 8]


@NO_DALI
def test_dali_failing_alone_costs_no_image(zoo: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    from fastdd.data.loading import dali_backend as dali_loader

    expected = images(list(open_loader(zoo, 4, (32, 32), backend="torchvision")))

    class Broken:
        def feed_input(self, name: str, values: Any) -> None: ...

        def schedule_run(self) -> None: ...

        def share_outputs(self) -> None:
            raise RuntimeError("out of something\nand a long stack")

    monkeypatch.setattr(dali_loader, "build", lambda *_, **__: Broken())
    with pytest.warns(UserWarning, match="torchvision can read: out of something$"):
        got = images(list(open_loader(zoo, 4, (32, 32), backend="dali")))
    assert torch.equal(got, expected)


def test_nothing_readable(tmp_path: Path) -> None:
    data = open_dataset(write(tmp_path, {"train/a/1.jpg": b"x", "train/b/1.jpg": b"y"}), "train")
    (batch,) = open_loader(data, 2, (8, 8), on_error="skip")
    assert (len(batch.images), len(batch.labels), batch.skipped) == (0, 0, (0, 1))
    with pytest.raises(InputError, match="none of 2 images of train can be read"):
        open_loader(data, 2, None, on_error="skip")


def test_a_pass_that_loses_an_image_is_an_error(zoo: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    loader: Any = open_loader(zoo, 4, (8, 8))
    whole = loader._read
    monkeypatch.setattr(loader, "_read", lambda *arguments: (part for part in list(whole(*arguments))[:-1]))
    with pytest.raises((RuntimeError, ValueError)):
        list(loader)


# -- arguments ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"batch_size": 0}, "batch size 0"),
        ({"size": (0, 3)}, "height, width"),
        ({"channels": 2}, "channels 2"),
        ({"order": "shufled"}, "did you mean 'shuffled'"),
        ({"backend": "dalli"}, "did you mean 'dali'"),
        ({"on_error": "ignore"}, "on_error 'ignore'"),
        ({"shard": (2, 2)}, r"shard \(2, 2\)"),
        ({"indices": [11]}, "image index 11 is outside of 0 to 10"),
        ({"threads": 0}, "threads 0"),
        ({"resize": 7}, "resize 7 does not cover"),
        ({"size": None, "resize": 7}, "resize 7 does not cover"),
        ({"size": None, "crop": Crop()}, "goes with a size"),
    ],
)
def test_impossible_arguments(zoo: Dataset, options: Any, expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        open_loader(zoo, **{"batch_size": 4, "size": (8, 8), **options})


def test_auto_is_torchvision_on_a_cpu_and_dali_must_be_there(
    zoo: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert open_loader(zoo, 2, (8, 8)).backend.startswith("torchvision 0.")
    monkeypatch.setattr("fastdd.data.loading.loader.dali_installed", lambda: False)
    with pytest.raises(InputError, match=r"fastdd\[dali\]"):
        open_loader(zoo, 2, (8, 8), backend="dali")


@NO_DALI
def test_auto_is_dali_for_jpegs_on_a_gpu(zoo: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[str] = []
    monkeypatch.setattr(
        "fastdd.data.loading.dali_backend.DaliLoader", lambda *arguments: chosen.append("dali")
    )
    monkeypatch.setattr(
        "fastdd.data.loading.loader.TorchLoader", lambda *arguments: chosen.append("torchvision")
    )
    open_loader(zoo, 2, (8, 8), device="cuda")
    open_loader(zoo, 2, (8, 8), device="cuda", indices=[2, 0])  # begins with a PNG
    open_loader(open_dataset("digits", "test"), 2, None, device="cuda")
    open_loader(zoo, 2, (8, 8), device="cuda", backend="torchvision")
    assert chosen == ["dali", "torchvision", "torchvision", "torchvision"]


def test_workers_start_no_threads_of_their_own(zoo: Dataset) -> None:
    from fastdd.data.loading.base_loader import decoding_threads

    before = torch.get_num_threads()
    with decoding_threads(2) as pool:
        assert pool.submit(torch.get_num_threads).result() == 1
    assert torch.get_num_threads() == before


# -- resident sets --------------------------------------------------------------------------------


def test_two_epochs_over_a_resident_set_decode_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {f"train/{i % 3}/{i:03}.png": encoded(picture(i, 32, 32), "PNG") for i in range(300)}
    data = open_dataset(write(tmp_path, files), "train")
    decoded: Counter[int] = Counter()
    pixels = data.reader.pixels

    def counted(index: int, channels: int) -> Tensor:
        decoded[index] += 1
        return pixels(index, channels)

    monkeypatch.setattr(data.reader, "pixels", counted)
    kept = resident(data, (32, 32), indices=range(0, 300, 2))
    assert decoded == Counter(range(0, 300, 2))
    first, second = (list(kept.batches(64, epoch=epoch, crop=Crop())) for epoch in range(2))
    assert sum(decoded.values()) == 150
    assert sorted(positions(first)) == sorted(positions(second)) == list(range(0, 300, 2))
    assert positions(first) != positions(second)
    plain = list(kept.batches(40))
    assert torch.equal(images(plain), kept.images)
    assert torch.equal(torch.cat([batch.labels for batch in plain]), data.labels[positions(plain)])


def test_resident_windows_are_torchvisions_crops(zoo: Dataset) -> None:
    from torchvision.transforms.v2 import functional

    from fastdd.runtime.seeds import generator
    from fastdd_kernels import resample_parameters

    kept = resident(zoo, (40, 48), resize=64)
    crop = Crop((0.2, 1.0))
    batches = list(kept.batches(4, epoch=3, seed=2, crop=crop))
    drawn = resample_parameters(
        11, 40, 48, crop.scale, crop.ratio, crop.flip, generator=generator(2, "crop", 3)
    )
    for index, image in zip(positions(batches), images(batches), strict=True):
        flip, _, _, top, left, height, width = drawn[index].tolist()
        source = kept.images[index].float()
        expected = functional.resized_crop(source, top, left, height, width, [40, 48], antialias=True)
        torch.testing.assert_close(image.float(), expected.flip(2) if flip else expected, atol=0.51, rtol=0)
    again = list(kept.batches(11, epoch=3, seed=2, crop=crop))
    assert torch.equal(images(batches), images(again))


def test_resident_skips_and_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"train/a/1.jpg": GOOD, "train/a/2.jpg": b"x", "train/b/1.jpg": GOOD, "train/b/2.jpg": GOOD}
    data = open_dataset(write(tmp_path, files), "train")
    with pytest.raises(InputError, match=r"a/2.jpg"):
        resident(data, (8, 8))
    kept = resident(data, (8, 8), on_error="skip")
    assert (len(kept), kept.indices.tolist(), kept.labels.tolist()) == (3, [0, 2, 3], [0, 1, 1])
    assert list(kept.skipped) == [1]
    assert [batch.indices.tolist() for batch in kept.batches(2, drop_last=True)] == [[0, 2]]
    with pytest.raises(InputError, match="set epoch"):
        next(kept.batches(2, crop=Crop()))
    monkeypatch.setattr(memory, "available_memory", lambda: 1000)
    with pytest.raises(InputError, match=r"768 bytes.*600.*open_loader"):
        resident(data, (8, 8), on_error="skip")

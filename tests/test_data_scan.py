"""fastdd.data: the quick scan, fingerprints of names and contents, the summary, and unreadable files."""

from __future__ import annotations

import hashlib
import io
import json
import struct
import tarfile
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from galleries import pixels
from pictures import jpeg, picture, png, tar, write

from fastdd.cli import main
from fastdd.data import check, open_dataset, scan, summary
from fastdd.data.decode import decode
from fastdd.data.sources import archive_members as tar_module
from fastdd.data.sources import folder
from fastdd.data.verify import BadImage
from fastdd.errors import InputError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two classes of two training images and a test image each; JPEG and PNG."""
    for label, name in enumerate(("cat", "dog")):
        for split, count in (("train", 2), ("test", 1)):
            for i in range(count):
                image = picture(10 * label + i + 5 * (split == "test"), 16, 16)
                content = jpeg(image) if i else png(image)
                write(tmp_path / "pets", f"{split}/{name}/{i}.{'jpg' if i else 'png'}", content)
    return tmp_path / "pets"


def message(root: str | Path, split: str = "train", **options: Any) -> str:
    with pytest.raises(InputError) as caught:
        open_dataset(root, split, **options)  # type: ignore[arg-type]
    return str(caught.value)


# -- scan -----------------------------------------------------------------------------------------


def test_good_files_are_not_called_bad(root: Path) -> None:
    picture_of = jpeg(picture(3, 16, 16))
    for name, content in (
        ("trailing.jpg", picture_of + bytes(1000)),
        ("padded.jpg", picture_of + b"\n\n"),
        ("trailing.png", png(picture(3)) + b"comment"),
        ("really.png", picture_of),
        ("one.png", png(picture(0, 1, 1))),
    ):
        write(root, f"train/cat/{name}", content)
    assert scan(root) == []
    assert check(root) == check(root, quick=True) == []


@pytest.mark.parametrize("before", [b"", bytes(9000)])
def test_an_animated_png_is_found_quickly_too(root: Path, before: bytes) -> None:
    """Wherever its animation is declared, such as behind a color profile."""
    still = png(picture(3, 16, 16))
    profile = _chunk(b"iCCP", before)
    declared = profile + _chunk(b"acTL", struct.pack(">II", 4, 0))
    write(root, "train/cat/animated.png", still[:33] + declared + still[33:])
    write(root, "train/cat/still.png", still[:33] + profile + still[33:])
    (found,) = check(root, quick=True)
    assert found.where == "train/cat/animated.png"
    assert "animated PNG of 4 frames" in found.what
    assert [found] == check(root)


def _chunk(kind: bytes, content: bytes) -> bytes:
    """A chunk of a PNG."""
    sum_of = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", sum_of)


def test_one_pixel(root: Path) -> None:
    for name, content in (("x.png", png(picture(0, 1, 1))), ("y.jpg", jpeg(torch.full((3, 1, 1), 9).byte()))):
        write(root, f"train/cat/{name}", content)
    data = open_dataset(root, "train")
    images = pixels(data, (4, 4))
    assert torch.equal(images[2], picture(0, 1, 1).expand(3, 4, 4))
    assert (images[3] == 9).all()


BAD = {
    "empty.jpg": b"",
    "tiny.jpg": b"\xff\xd8\xff\xd9",
    "text.jpg": b"this is not an image, whatever its name says",
    "header.jpg": jpeg(picture(1, 64, 64))[:100],
    "half.jpg": jpeg(picture(1, 64, 64))[:1500],
    "half.png": png(picture(1, 64, 64))[:1500],
    "end.png": png(picture(1, 16, 16))[:-4],
    "gif.png": b"GIF89a" + bytes(100),
}


@pytest.mark.parametrize("packed", [False, True])
def test_bad_files_are_found(root: Path, tmp_path: Path, packed: bool) -> None:
    for name, content in BAD.items():
        write(root, f"train/dog/{name}", content)
    place = root
    if packed:
        place = tmp_path / "a.tar"
        with tarfile.open(place, "w") as archive:
            archive.add(root, arcname=".")
    data = open_dataset(place, "train")
    found = scan(data)
    assert [number for number, _ in found] == sorted(number for number, _ in found)
    assert {data.names[number] for number, _ in found} == {f"dog/{name}" for name in BAD}
    assert all(reason.startswith(f"train/{data.names[number]} ") for number, reason in found)
    assert scan(place) == found
    assert scan(place, "test") == []
    # the quick and the whole check say the same of them
    assert check(place, quick=True) == check(place)
    assert len(check(place)) == len(BAD)


def test_the_scan_reads_the_ends_only(root: Path) -> None:
    """A flipped byte inside of a PNG needs the whole check; this is what quick means."""
    content = bytearray(png(picture(1, 16, 16)))
    content[len(content) // 2] ^= 0xFF
    write(root, "train/dog/flipped.png", bytes(content))
    assert scan(root) == []
    assert len(check(root)) == 1


def test_a_file_that_shrank(root: Path) -> None:
    data = open_dataset(root, "train")
    path = root / "train/dog/1.jpg"
    path.write_bytes(path.read_bytes()[:-40])
    assert [number for number, _ in scan(data)] == [3]
    path.unlink()
    ((number, reason),) = scan(data)
    assert number == 3
    assert reason == "train/dog/1.jpg cannot be read (No such file or directory)"


def test_the_digits_have_no_files() -> None:
    assert scan("digits") == scan(open_dataset("digits", "test")) == []


# -- what may not be read, and bombs --------------------------------------------------------------


def refuse(name: str) -> Callable[..., Any]:
    """An ``open`` that may not open files of a name; permissions do not hold for the superuser."""

    def fake(path: Any, *arguments: Any) -> Any:
        if str(path).endswith(name):
            raise PermissionError(13, "Permission denied", str(path))
        return open(path, *arguments)

    return fake


def test_an_unreadable_file(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "open", refuse("dog/0.png"), raising=False)
    data = open_dataset(root, "train")
    with pytest.raises(InputError, match=r"'train/dog/0.png' of .* cannot be read \(Permission denied\)"):
        pixels(data, (4, 4))
    assert [reason for _, reason in scan(data)] == ["train/dog/0.png cannot be read (Permission denied)"]
    assert "'train/dog/0.png' of" in message(root, fingerprint="contents")


def test_an_unreadable_archive_or_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tar(tmp_path / "set/train-0.tar", [("a.png", b"x"), ("a.cls", b"0")])
    monkeypatch.setattr(tar_module, "open", refuse(".tar"), raising=False)
    assert "cannot read" in message(tmp_path / "set/train-0.tar")
    assert "'train-0.tar' cannot be used: cannot read" in message(tmp_path / "set")


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


@pytest.mark.parametrize(("side", "expected"), [(2, "exactly 14 bytes"), (100_000, "more than the limit")])
def test_a_png_that_inflates_to_gigabytes(side: int, expected: str) -> None:
    deflate = zlib.compressobj(9)
    block = bytes(1 << 20)
    stream = b"".join(deflate.compress(block) for _ in range(200)) + deflate.flush()
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    data = bytearray(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", stream) + chunk(b"IEND", b"")
    )
    assert len(data) < 300_000
    tracemalloc.start()
    try:
        with pytest.raises(BadImage, match=expected):
            decode(data, 3)
        assert tracemalloc.get_traced_memory()[1] < 4_000_000
    finally:
        tracemalloc.stop()


# -- fingerprint and summary ------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_fingerprint_of_contents(root: Path, tmp_path: Path, mode: Any) -> None:
    data = open_dataset(root, "train", "contents")
    lines = "".join(
        f"{name}\0{hashlib.sha256((root / 'train' / name).read_bytes()).hexdigest()}\n" for name in data.names
    )
    assert data.fingerprint == hashlib.sha256(f"train\n{lines}".encode()).hexdigest()
    assert data.fingerprint != open_dataset(root, "train").fingerprint
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        archive.add(root, arcname=".")
    (tmp_path / "a.tar").write_bytes(buffer.getvalue())
    assert open_dataset(tmp_path / "a.tar", "train", "contents").fingerprint == data.fingerprint
    path = root / "train/cat/0.png"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    before = open_dataset(root, "train").fingerprint
    path.write_bytes(content)
    assert open_dataset(root, "train").fingerprint == before
    assert open_dataset(root, "train", "contents").fingerprint != data.fingerprint


def test_unknown_fingerprint(root: Path) -> None:
    assert "fingerprint 'content' is unknown (did you mean 'contents'?)" in message(
        root, fingerprint="content"
    )


@pytest.mark.parametrize("kind", ["names", "contents"])
def test_summary(root: Path, kind: Any) -> None:
    data = open_dataset(root, "train", kind)
    assert json.loads(json.dumps(summary(data))) == {
        "layout": "ImageFolder",
        "split": "train",
        "images": 4,
        "classes": ["cat", "dog"],
        "counts": [2, 2],
        "fingerprint": data.fingerprint,
        "fingerprint_of": kind,
    }
    assert summary(open_dataset("digits", "test", kind))["fingerprint_of"] == "contents"


# -- the command ----------------------------------------------------------------------------------


def test_data_show(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "show", str(root)]) == 0
    out = capsys.readouterr().out
    assert open_dataset(root, "train").fingerprint in out
    assert open_dataset(root, "test").fingerprint in out
    assert main(["data", "show", str(root), "--contents"]) == 0
    assert open_dataset(root, "test", "contents").fingerprint in capsys.readouterr().out
    assert main(["data", "show", str(root / "nowhere")]) == 2


def test_data_show_names_a_count_once_where_all_classes_have_it() -> None:
    from fastdd.cli.data import _range

    assert _range([60, 60]) == "60"
    assert _range([50, 60, 55]) == "50 to 60"


def test_data_check_quick(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "check", "--quick", str(root)]) == 0
    write(root, "test/cat/0.png", b"no image at all")
    assert main(["data", "check", str(root), "--quick"]) == 1
    assert "'test/cat/0.png' is neither a JPEG nor a PNG" in capsys.readouterr().out

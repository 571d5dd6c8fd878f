"""Whatever a file holds, reading it ends in a result or in one line: files damaged and made up by hypothesis.

``pytest tests/test_properties.py --hypothesis-profile long`` tries many more inputs than the suite does.
"""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import torch

pytest.importorskip("hypothesis", reason="pip install 'fastdd[dev]'")

from hypothesis import given
from hypothesis import strategies as st
from limits import damages, tries
from pictures import tar
from PIL import Image

from fastdd.data import check
from fastdd.data.decode import decode
from fastdd.data.verify import BadImage
from fastdd.errors import InputError
from fastdd.labels.fkd_files import read_record

# -- what files hold ---------------------------------------------------------------------------------

LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
)
NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=30)


def picture(kind: str, side: int = 6, shade: int = 0) -> bytes:
    file = io.BytesIO()
    pixels = bytes((shade + 7 * i) % 256 for i in range(3 * side * side))
    Image.frombytes("RGB", (side, side), pixels).save(file, kind)
    return file.getvalue()


MEMBERS = [
    (f"{split}/{name}/{i}.{kind}", picture("JPEG" if kind == "jpg" else "PNG", shade=i))
    for split in ("train", "test")
    for name in ("cat", "dog")
    for i, kind in enumerate(("png", "jpg"))
]
SAMPLES = [(f"{i}.png", picture("PNG", shade=i)) for i in range(4)]
SAMPLES += [(f"{i}.cls", str(i % 2).encode()) for i in range(4)]


def ends(root: Path) -> None:
    """Look at every image of a data set: problems are listed, or one line says what is wrong."""
    around = sorted(root.parent.rglob("*"))
    try:
        said = [str(problem) for problem in check(root)]
    except InputError as error:
        said = [str(error)]
    assert all(said)
    assert sorted(root.parent.rglob("*")) == around


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("properties")


# -- images, archives and shards ---------------------------------------------------------------------


@tries(60)
@given(kind=st.sampled_from(["PNG", "JPEG"]), damage=damages(), channels=st.sampled_from([1, 3]))
def test_damaged_images(kind: str, damage: Callable[[bytes], bytes], channels: int) -> None:
    with suppress(BadImage):
        image = decode(bytearray(damage(picture(kind))), channels)
        assert image.dtype == torch.uint8
        assert len(image) == channels


@tries(40)
@given(mode=st.sampled_from(["w", "w:gz", "w:bz2", "w:xz"]), damage=damages())
def test_damaged_tars(folder: Path, mode: str, damage: Callable[[bytes], bytes]) -> None:
    path = folder / "tar" / "a.tar"
    path.parent.mkdir(exist_ok=True)
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, content in MEMBERS:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    path.write_bytes(damage(path.read_bytes()))
    ends(path)


@tries(40)
@given(method=st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]), damage=damages())
def test_damaged_zips(folder: Path, method: int, damage: Callable[[bytes], bytes]) -> None:
    path = folder / "zip" / "a.zip"
    path.parent.mkdir(exist_ok=True)
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in MEMBERS:
            archive.writestr(name, content)
    path.write_bytes(damage(path.read_bytes()))
    ends(path)


@tries(40)
@given(
    names=st.lists(NAMES, min_size=1, max_size=3), top=st.sampled_from(["", "train/", "train/cat/", "../"])
)
def test_members_of_any_name(folder: Path, names: list[str], top: str) -> None:
    path = folder / "names" / "a.tar"
    path.parent.mkdir(exist_ok=True)
    tar(path, [*MEMBERS, *((top + name, picture("PNG")) for name in names)])
    ends(path)


@tries(40)
@given(damage=damages())
def test_damaged_shards(folder: Path, damage: Callable[[bytes], bytes]) -> None:
    root = folder / "shards"
    for split in ("train", "val"):
        (root / split).mkdir(parents=True, exist_ok=True)
        tar(root / split / "0000.tar", SAMPLES)
    path = root / "train" / "0000.tar"
    path.write_bytes(damage(path.read_bytes()))
    ends(root)


@tries(40)
@given(
    key=NAMES,
    label=st.binary(max_size=30) | VALUES.map(lambda value: json.dumps(value).encode()),
    suffix=NAMES,
)
def test_samples_of_any_key_and_label(folder: Path, key: str, label: bytes, suffix: str) -> None:
    root = folder / "samples"
    for split in ("train", "val"):
        (root / split).mkdir(parents=True, exist_ok=True)
        extra = [(f"{key}.png", picture("PNG")), (f"{key}.cls", label), (f"{key}.json", label)]
        tar(root / split / "0000.tar", [*SAMPLES, *extra, (f"{key}.{suffix}", label)])
    ends(root)


# -- labels of other people --------------------------------------------------------------------------

TENSORS = st.builds(
    lambda shape, value, dtype: torch.full(shape, value).to(dtype),
    st.lists(st.integers(0, 4), max_size=3),
    st.floats(-1e6, 1e6),
    st.sampled_from([torch.float32, torch.float16, torch.int64, torch.bool]),
)
BATCH = [torch.rand(4, 4), torch.zeros(4), torch.arange(4), 0.5, [0, 0, 3, 3], torch.zeros(4, 5)]


def reads(path: Path) -> None:
    with suppress(InputError):
        record = read_record(path)
        assert len(record.logits) == len(record.windows)


@tries(60)
@given(damage=damages())
def test_damaged_fkd_batches(folder: Path, damage: Callable[[bytes], bytes]) -> None:
    file = io.BytesIO()
    torch.save(BATCH, file)
    (folder / "batch_0.tar").write_bytes(damage(file.getvalue()))
    reads(folder / "batch_0.tar")


@tries(25)
@given(
    content=st.lists(TENSORS | VALUES, min_size=5, max_size=8) | VALUES,
    place=st.integers(0, 5),
    other=TENSORS | VALUES,
)
def test_fkd_batches_of_anything(folder: Path, content: object, place: int, other: object) -> None:
    for each in (content, [*BATCH[:place], other, *BATCH[place + 1 :]]):
        torch.save(each, folder / "batch_1.tar")
        reads(folder / "batch_1.tar")

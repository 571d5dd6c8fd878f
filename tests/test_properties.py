"""Whatever a file holds, reading it ends in a result or in one line: files damaged and made up by hypothesis.

``pytest tests/test_properties.py --hypothesis-profile long`` tries many more inputs than the suite does.
"""

from __future__ import annotations

import io
import json
import shutil
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
from limits import bounded, damages, tries
from pictures import tar
from PIL import Image

import fastdd
from fastdd.bank import Bank
from fastdd.cli import main
from fastdd.data import check
from fastdd.data.decode import decode
from fastdd.data.verify import BadImage
from fastdd.distilled.runs import read_source
from fastdd.errors import InputError
from fastdd.labels.fkd_files import read_record
from fastdd.run_folder import RunFolder, StudentResult, read

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
        with bounded():
            said = [str(problem) for problem in check(root)]
    except InputError as error:
        said = [str(error)]
    assert all(said)
    assert sorted(root.parent.rglob("*")) == around


def one_line(capsys: pytest.CaptureFixture[str], *command: str | Path) -> None:
    """A command is done, or ends with status 2 and one line."""
    capsys.readouterr()
    status = main([str(word) for word in command])
    err = capsys.readouterr().err
    assert status in (0, 1, 2)
    assert status != 2 or err.strip().splitlines()[-1].startswith("error: ")
    assert "--fresh" not in err


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("properties")


# -- images, archives and shards ---------------------------------------------------------------------


@tries(60)
@given(kind=st.sampled_from(["PNG", "JPEG"]), damage=damages(), channels=st.sampled_from([1, 3]))
def test_damaged_images(kind: str, damage: Callable[[bytes], bytes], channels: int) -> None:
    with suppress(BadImage), bounded():
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
    with suppress(InputError), bounded():
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


# -- a run folder ------------------------------------------------------------------------------------

JSON_FILES = (
    "manifest.json",
    "data.json",
    "metrics.json",
    "students/deda/seed_0.json",
    "recover/deda/unit_00000.json",
    "bank/manifest.json",
)


@pytest.fixture(scope="module")
def copy(finished: Path, folder: Path) -> Path:
    """A finished run that each example changes and puts back."""
    run = Path(shutil.copytree(finished, folder / "run"))
    fastdd.run(finished.parent / "tiny.yaml", run, until="label")
    return run


def changed(document: object, places: list[int], value: object) -> object:
    """A document in which one value, found by the numbers of its parents, is another."""
    if not places or not isinstance(document, dict | list) or not document:
        return value
    if isinstance(document, list):
        at = places[0] % len(document)
        return [*document[:at], changed(document[at], places[1:], value), *document[at + 1 :]]
    key = list(document)[places[0] % len(document)]
    return {**document, key: changed(document[key], places[1:], value)}


@tries(12)
@given(name=st.sampled_from([*JSON_FILES, "recipe.yaml"]), damage=damages())
def test_damaged_json_of_a_run(
    copy: Path, capsys: pytest.CaptureFixture[str], name: str, damage: Callable[[bytes], bytes]
) -> None:
    _with(copy / name, damage, lambda: looked_at(copy, capsys))


@tries(12)
@given(name=st.sampled_from(JSON_FILES), places=st.lists(st.integers(0, 20), max_size=6), value=VALUES)
def test_json_of_a_run_with_any_value(
    copy: Path, capsys: pytest.CaptureFixture[str], name: str, places: list[int], value: object
) -> None:
    def change(whole: bytes) -> bytes:
        return json.dumps(changed(json.loads(whole), places, value)).encode()

    _with(copy / name, change, lambda: looked_at(copy, capsys))


@tries(12)
@given(damage=damages())
def test_damaged_safetensors_of_a_run(
    copy: Path, capsys: pytest.CaptureFixture[str], damage: Callable[[bytes], bytes]
) -> None:
    labels = copy / "labels/deda.safetensors"
    _with(copy / "embeddings.safetensors", damage, lambda: one_line(capsys, "report", copy))
    _with(labels, damage, lambda: one_line(capsys, "labels", "show", labels))
    (shard,) = (copy / "bank").glob("*.safetensors")
    _with(shard, damage, lambda: _read_bank(copy / "bank"))


def _read_bank(path: Path) -> None:
    with suppress(InputError):
        bank = Bank.open(path)
        for number in range(len(bank)):
            bank[number]


def looked_at(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Read a run with all that reads its JSON."""
    one_line(capsys, "status", run)
    one_line(capsys, "report", run)
    _read_bank(run / "bank")
    with suppress(InputError):
        read_source(RunFolder(run), "deda")
    with suppress(InputError):
        read(RunFolder(run).student("deda", 0), StudentResult)


def _with(path: Path, damage: Callable[[bytes], bytes], act: Callable[[], object]) -> None:
    """Do something while a file is damaged."""
    whole = path.read_bytes()
    try:
        path.write_bytes(damage(whole))
        act()
    finally:
        path.write_bytes(whole)

"""fastdd.data: the files of CIFAR-10 and CIFAR-100, and pickles that hold more than data."""

from __future__ import annotations

import os
import pickle
import struct
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from galleries import pixels as decoded
from torchvision import datasets

from fastdd.data import check, open_dataset, scan, summary
from fastdd.data.sources import cifar
from fastdd.data.sources.inert_pickle import Array, Refused, read_plain
from fastdd.errors import InputError
from fastdd.runtime import memory

Image = pytest.importorskip("PIL.Image", reason="PIL is the reference for luminance")

NAMES = {10: list("abcdefghij"), 100: [f"c{i:02d}" for i in range(100)]}
FOLDERS = ("cifar-10-batches-py", "cifar-100-python", "cifar-10-batches-bin", "cifar-100-binary")


@pytest.fixture(autouse=True)
def few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of 20 images instead of 10,000, and of 100 instead of 50,000."""
    monkeypatch.setattr(cifar, "ROWS", {10: 20, 100: None})
    monkeypatch.setattr(cifar, "SPLIT_ROWS", {"train": 100, "test": 100})


def content(classes: int, seed: int) -> tuple[np.ndarray, list[int]]:
    """Pixels [n, 3072] and labels of one file; every class occurs."""
    rows = 20 if classes == 10 else 100
    random = np.random.RandomState(seed)
    return random.randint(0, 256, (rows, 3072)).astype(np.uint8), (
        random.permutation(rows) % classes
    ).tolist()


def python2(value: Any) -> bytes:
    """The instructions that Python 2 writes at protocol 2, as in the files of the authors."""

    def text(raw: bytes) -> bytes:
        return b"U" + bytes([len(raw)]) + raw if len(raw) < 256 else b"T" + struct.pack("<i", len(raw)) + raw

    if isinstance(value, dict):
        return b"}(" + b"".join(python2(key) + python2(each) for key, each in value.items()) + b"u"
    if isinstance(value, list):
        return b"](" + b"".join(map(python2, value)) + b"e"
    if isinstance(value, int):
        return b"K" + bytes([value])
    if isinstance(value, str):
        return text(value.encode())
    rows, columns = value.shape
    made = b"cnumpy.core.multiarray\n_reconstruct\nq\x01cnumpy\nndarray\nq\x02K\x00\x85U\x01b\x87R"
    kind = b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    shape = b"M" + struct.pack("<H", rows) + b"M" + struct.pack("<H", columns) + b"\x86"
    return made + b"(K\x01" + shape + kind + b"\x89" + text(value.tobytes()) + b"tb"


def dump(value: Any, protocol: int | None) -> bytes:
    return b"\x80\x02" + python2(value) + b"." if protocol is None else pickle.dumps(value, protocol)


def make(parent: Path, folder: str, protocol: int | None = None) -> Path:
    """The files of a folder as distributed; protocol None is Python 2's."""
    root = parent / folder
    root.mkdir(parents=True)
    classes = 100 if "100" in folder else 10
    names = NAMES[classes]
    files = (
        {"train": 1, "test": 6}
        if classes == 100
        else {f"data_batch_{i}": i for i in range(1, 6)} | {"test_batch": 6}
    )
    for name, seed in files.items():
        pixels, labels = content(classes, seed)
        if "-bin" in folder:
            coarse = [[7]] * len(labels) if classes == 100 else [[]] * len(labels)
            records = [
                bytes([*c, label]) + row.tobytes()
                for c, label, row in zip(coarse, labels, pixels, strict=True)
            ]
            (root / f"{name}.bin").write_bytes(b"".join(records))
        else:
            key = "fine_labels" if classes == 100 else "labels"
            value = {"batch_label": "one", key: labels, "coarse_labels": [7] * len(labels), "data": pixels}
            (root / name).write_bytes(dump(value, protocol))
    if "-bin" in folder:
        meta = "fine_label_names.txt" if classes == 100 else "batches.meta.txt"
        (root / meta).write_text("\n".join(names) + "\n\n")
    else:
        key = "fine_label_names" if classes == 100 else "label_names"
        (root / ("meta" if classes == 100 else "batches.meta")).write_bytes(dump({key: names}, protocol))
    return root


def expected(classes: int, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Pixels and labels of a split in class order."""
    seeds = [6] if split == "test" else [1] if classes == 100 else [1, 2, 3, 4, 5]
    parts = [content(classes, seed) for seed in seeds]
    labels = np.concatenate([np.array(part[1]) for part in parts])
    order = np.argsort(labels, kind="stable")
    return np.concatenate([part[0] for part in parts])[order], labels[order]


def message(root: str | Path, split: str = "train") -> str:
    with pytest.raises(InputError) as caught:
        open_dataset(root, split)  # type: ignore[arg-type]
    return str(caught.value)


@pytest.mark.parametrize("folder", FOLDERS)
@pytest.mark.parametrize("place", ["itself", "above", "tar.gz"])
def test_images_of_every_kind(tmp_path: Path, folder: str, place: str) -> None:
    root = make(tmp_path / "data", folder)
    if place == "above":
        root = root.parent
    elif place == "tar.gz":
        with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as archive:
            archive.add(root, arcname=folder)
        root = tmp_path / "a.tar.gz"
    classes = 100 if "100" in folder else 10
    for split in ("train", "test"):
        data = open_dataset(root, split)  # type: ignore[arg-type]
        pixels, labels = expected(classes, split)
        assert data.classes == tuple(NAMES[classes])
        assert data.labels.tolist() == labels.tolist()
        assert torch.equal(decoded(data, None), torch.from_numpy(pixels).view(-1, 3, 32, 32))
        assert summary(data)["fingerprint_of"] == "contents"
        assert summary(data)["layout"] == folder
    assert check(root) == scan(root) == []


@pytest.mark.parametrize("pair", [FOLDERS[::2], FOLDERS[1::2]])
def test_both_kinds_agree(tmp_path: Path, pair: tuple[str, str]) -> None:
    one, other = (open_dataset(make(tmp_path, folder), "train") for folder in pair)
    assert one.names == other.names
    assert one.fingerprint == other.fingerprint != open_dataset(tmp_path / pair[0], "test").fingerprint


@pytest.mark.parametrize("folder", FOLDERS[:2])
@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, None])
def test_every_protocol_is_torchvisions_reading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str, protocol: int | None
) -> None:
    root = make(tmp_path, folder, protocol)
    monkeypatch.setattr(datasets.cifar, "check_integrity", lambda *_: True)
    reference = (datasets.CIFAR100 if "100" in folder else datasets.CIFAR10)(str(tmp_path), train=True)
    order = np.argsort(reference.targets, kind="stable")
    data = open_dataset(root, "train")
    assert torch.equal(decoded(data, None), torch.from_numpy(reference.data[order]).permute(0, 3, 1, 2))
    assert list(data.classes) == reference.classes
    assert data.labels.tolist() == np.array(reference.targets)[order].tolist()


def test_luminance_is_pils(tmp_path: Path) -> None:
    data = open_dataset(make(tmp_path, FOLDERS[2]), "test")
    color, grey = decoded(data, None), decoded(data, None, 1)
    for image, luminance in zip(color, grey, strict=True):
        reference = np.array(Image.fromarray(image.permute(1, 2, 0).numpy()).convert("L"))
        assert torch.equal(luminance[0], torch.from_numpy(reference))


def test_classes_are_sorted(tmp_path: Path) -> None:
    root = make(tmp_path, FOLDERS[2])
    before = open_dataset(root, "test")
    (root / "batches.meta.txt").write_text("\n".join(reversed(NAMES[10])))
    after = open_dataset(root, "test")
    assert after.classes == before.classes
    assert torch.equal(decoded(after, None).view(10, 2, -1), decoded(before, None).view(10, 2, -1).flip(0))


# -- bad files --------------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", FOLDERS[2:])
def test_a_binary_file_of_the_wrong_length(tmp_path: Path, folder: str) -> None:
    root = make(tmp_path, folder)
    for name in ("data_batch_3.bin", "test_batch.bin", "train.bin", "test.bin"):
        path = root / name
        if path.exists():
            whole = path.read_bytes()
            record = 3074 if "100" in folder else 3073
            for bad in (whole[:-record], whole[:-1], whole + b"\0", b""):
                path.write_bytes(bad)
                assert f"{name}' has {len(bad):,} bytes; expected" in message(
                    root, "test" if "test" in name else "train"
                )
            path.write_bytes(whole)


def test_bad_python_files(tmp_path: Path) -> None:
    root = make(tmp_path, FOLDERS[0])
    path, pixels = root / "data_batch_2", content(10, 2)[0]
    whole, labels = path.read_bytes(), [0] * 20
    cases: list[tuple[bytes, str]] = [
        (dump({"labels": labels, "data": pixels[:19]}, None), "holds pixels [19, 3072] and 20 labels"),
        (dump({"labels": labels[:19], "data": pixels}, None), "holds pixels [20, 3072] and 19 labels"),
        (dump({"labels": [*labels[:19], 10], "data": pixels}, None), "a label outside of 0 to 9"),
        (dump({"labels": [*labels[:19], 1 << 80], "data": pixels}, 2), "a label outside of 0 to 9"),
        (dump({"labels": [*labels[:19], "x"], "data": pixels}, None), "a label outside of 0 to 9"),
        (dump({"data": pixels}, None), "lacks 'data' or 'labels'"),
        (dump({"labels": labels, "data": [1, 2]}, None), "lacks 'data' or 'labels'"),
        (dump([1, 2], None), "holds no dictionary"),
        (dump({"labels": labels, "data": pixels.astype(np.int32)}, 2), "array of another kind than bytes"),
        (dump({"labels": labels, "data": pixels}, 5), "which plain data do not need"),
        (b"", "damaged or cut short"),
        (b"this is text", "damaged or cut short"),
        (whole[: len(whole) // 2], "damaged or cut short"),
        (whole[:-1], "cut short"),
        (whole.replace(b"M\x14\x00M\x00\x0c", b"M\x15\x00M\x00\x0c"), "damaged or cut short"),
    ]
    for content_of_file, wanted in cases:
        path.write_bytes(content_of_file)
        assert wanted in message(root), wanted
        assert "data_batch_2" in message(root)
    assert any("data_batch_2" in str(problem) for problem in check(root))
    path.unlink()
    assert "lacks the file 'data_batch_2'" in message(root)


def test_missing_names_and_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make(tmp_path / "a", FOLDERS[0])
    (root / "batches.meta").write_bytes(dump({"label_names": NAMES[10][:9]}, None))
    assert "names 9 classes; expected 10" in message(root)
    (root / "batches.meta").write_bytes(dump({"label_names": [*NAMES[10][:9], "../x"]}, None))
    assert "names a class '../x'" in message(root)
    (root / "batches.meta").unlink()
    assert "no train/ folder" in message(root)
    assert "lacks the file 'batches.meta'" in message(root.parent)
    (root / "batches.meta").symlink_to(__file__)
    assert "leads out of the data folder" in message(root)
    make(tmp_path / "a", FOLDERS[1])
    assert "'cifar-10-batches-py', 'cifar-100-python'; give one" in message(tmp_path / "a")
    root = make(tmp_path / "b", FOLDERS[2])
    monkeypatch.setattr(cifar, "MAX_FILE", 100)
    assert "more than any file of CIFAR" in message(root)
    monkeypatch.setattr(memory, "available_memory", lambda: 1000)
    assert "bytes are needed to read" in message(root)


def test_a_cut_archive(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as archive:
        archive.add(make(tmp_path / "data", FOLDERS[0]), arcname=FOLDERS[0])
    whole = (tmp_path / "a.tar.gz").read_bytes()
    for keep in (0.3, 0.6, 0.9):
        (tmp_path / "a.tar.gz").write_bytes(whole[: int(keep * len(whole))])
        assert "cut short" in message(tmp_path / "a.tar.gz")


# -- pickles that would do something ------------------------------------------------------------------


class Runs:
    def __init__(self, function: Any, *arguments: Any) -> None:
        self.made = function, arguments

    def __reduce__(self) -> Any:
        return self.made


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_a_hostile_pickle_does_nothing(tmp_path: Path, protocol: int) -> None:
    root, victim = make(tmp_path, FOLDERS[0]), tmp_path / "victim"
    for function, arguments in (
        (os.system, (f"touch {victim}",)),
        (os.mkdir, (str(victim),)),
        (eval, ("1",)),
    ):
        hostile = pickle.dumps({"labels": Runs(function, *arguments)}, protocol)
        for name in ("data_batch_1", "batches.meta"):
            before = (root / name).read_bytes()
            (root / name).write_bytes(hostile)
            text = message(root)
            assert (
                f"asks for '{function.__module__} {function.__name__}'" in text or "__builtin__ eval" in text
            )
            assert not victim.exists()
            (root / name).write_bytes(before)
    pickle.loads(pickle.dumps(Runs(os.mkdir, str(victim)), protocol))
    assert victim.exists()  # it would have


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        (b"cos\nsystem\n(S'true'\ntR.", "asks for 'os system'"),
        (b"(S'true'\nios\nsystem\n.", "the instruction INST"),
        (b"(cos\nsystem\nS'true'\no.", "asks for 'os system'"),
        (b"\x80\x04\x8c\x02os\x8c\x06system\x93.", "asks for 'os system'"),
        (b"\x80\x02\x82\x01.", "the instruction EXT1"),
        (b"Pid\n.", "the instruction PERSID"),
        (b"cnumpy\nndarray\n(I1\nI2\ntR.", "calls 'numpy ndarray'"),
        (b"c_codecs\nencode\n(S'x'\nS'rot13'\ntR.", "calls '_codecs encode'"),
        (b"cnumpy\nndarray\n)\x81.", "the instruction NEWOBJ"),
        (b"](K\x01K\x02eK\x03b.", "changes an object"),
        (b"}((K\x01ltK\x01s.", "keys are neither text nor numbers"),
        (b"r\xff\xff\xff\x7f.", "damaged"),
        (b"\x80\x02\x8a\xff", "damaged"),
        (b"\x8e\xff\xff\xff\xff\xff\xff\xff\x0f", "damaged"),
        (b"0.", "the instruction POP"),
        (b".", "damaged"),
        (b"a.", "damaged"),
        (b"u.", "damaged"),
        (b"R.", "damaged"),
        (b"K\x01K\x02R.", "damaged"),
        (b"K\x01a.", "damaged"),
        (b"h\x05.", "damaged"),
    ],
)
def test_programs_that_are_refused(program: bytes, expected: str) -> None:
    with pytest.raises(Refused, match=expected):
        read_plain(program)


@pytest.mark.parametrize("protocol", range(5))
def test_plain_values(protocol: int) -> None:
    value = {"a": [1, -1, 300, 1 << 70, None, True], "b": ("x", "é", b"\xff\0"), "c": {}, "d": [], 5: ()}
    assert read_plain(pickle.dumps(value, protocol)) == value
    matrix = np.arange(12, dtype=np.uint8).reshape(3, 4)
    for array in (matrix, np.asfortranarray(matrix)):
        read = read_plain(pickle.dumps(array, protocol))
        assert isinstance(read, Array)
        assert (read.pixels == matrix).all()

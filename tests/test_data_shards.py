"""fastdd.data: WebDataset shards, in folders, by name and by pattern, and what can be wrong with them."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest
import torch
from galleries import pixels
from pictures import jpeg, picture, png, tar, write

from fastdd.data import check, open_dataset, scan
from fastdd.data.open import open_split
from fastdd.data.sources.archive_members import plain_headers
from fastdd.errors import InputError

# (key, label, seed) in two shards: classes alternate, so that a class lies in both.
TRAIN = [[("00", 10, 0), ("01", 2, 1), ("02", 10, 2)], [("03", 2, 3), ("04", 0, 4)]]
VAL = [[("00", 0, 5), ("01", 2, 6), ("02", 10, 7)]]


def shard(
    path: Path, samples: list[tuple[str, Any, int]], extra: list[tuple[str, bytes]] | None = None
) -> Path:
    members = []
    for key, label, seed in samples:
        members += [
            (f"{key}.cls", str(label).encode()),
            (f"{key}.json", b"{}"),
            (f"{key}.png", png(picture(seed))),
        ]
    return tar(path, members + (extra or []))


def shards(root: Path, train: str = "train/{}.tar", val: str = "val/{}.tar") -> Path:
    for name, parts in ((train, TRAIN), (val, VAL)):
        for number, samples in enumerate(parts):
            shard(root / name.format(f"{number:04d}"), samples)
    return root


def message(root: str | Path, split: str = "train") -> str:
    with pytest.raises(InputError) as caught:
        open_dataset(root, split)  # type: ignore[arg-type]
    return str(caught.value)


@pytest.mark.parametrize(
    ("train", "val", "pattern"),
    [
        ("train/{}.tar", "val/{}.tar", ""),
        ("train-{}.tar", "test_{}.tar", ""),
        ("train-{}.tar", "validation-{}.tar", ""),
        ("set-train-{}.tar", "set-val-{}.tar", "/set-{split}-*.tar"),
        ("train/{}.tar", "test/{}.tar", "/{split}/*.tar"),
    ],
)
def test_layouts(tmp_path: Path, train: str, val: str, pattern: str) -> None:
    root = f"{shards(tmp_path, train, val)}{pattern}"
    data = open_dataset(root, "train")
    assert data.classes == ("00", "02", "10")  # sorted as text and as numbers
    assert data.counts == (1, 2, 2)
    assert torch.equal(pixels(data, None), torch.stack([picture(seed) for seed in (4, 1, 3, 0, 2)]))
    assert [name.rpartition("/")[2] for name in data.names] == [
        "04.png",
        "01.png",
        "03.png",
        "00.png",
        "02.png",
    ]
    test = open_dataset(root, "val")  # type: ignore[arg-type]
    assert torch.equal(pixels(test, None), torch.stack([picture(seed) for seed in (5, 6, 7)]))
    assert test.classes == data.classes
    assert bytes(data.reader.encoded(0) or b"") == png(picture(4))
    assert check(root) == scan(root) == scan(root, "test") == []


def test_a_range_of_shards(tmp_path: Path) -> None:
    shards(tmp_path, "a-train-{}.tar", "a-val-{}.tar")
    root = f"{tmp_path}/a-{{split}}-{{0000..0000}}.tar"
    assert "lacks classes that" in message(root)  # the first shard alone has no 0
    whole = f"{tmp_path}/a-{{split}}-{{0000..0001}}.tar"
    assert len(open_dataset(whole, "train")) == 5
    assert "1 of 2 shards are missing" in message(whole, "test")
    assert "without {split}" in message(f"{tmp_path}/a-train-{{0000..0001}}.tar")
    assert "is no pattern of" in message(f"{tmp_path}/a-{{split}}-{{0001..0000}}.tar")
    assert "is no pattern of" in message(f"{tmp_path}/a-{{split}}-{{x}}.tar")
    assert "has no shards of train" in message(f"{tmp_path}/b-{{split}}-*.tar")
    assert "has no shards of train" in message(f"{tmp_path}/nowhere/{{split}}-*.tar")


@pytest.mark.parametrize("name", ["classes.txt", "classes.json"])
def test_names_of_classes(tmp_path: Path, name: str) -> None:
    shard(tmp_path / "train-0.tar", [("a", 1, 0), ("b", "owl", 1), ("c", "000", 2)])
    shard(tmp_path / "val-0.tar", [("a", 0, 3), ("b", 1, 4)])
    write(tmp_path, name, b"owl\ncat\n" if name.endswith("txt") else b'["owl", "cat"]')
    data = open_dataset(tmp_path, "train")
    assert data.classes == ("cat", "owl")  # sorted, whatever the order of the list
    assert data.counts == (1, 2)
    assert torch.equal(pixels(data, None), torch.stack([picture(seed) for seed in (0, 1, 2)]))
    assert len(open_dataset(tmp_path, "test")) == 2


def test_labels_may_be_names(tmp_path: Path) -> None:
    for split in ("train", "val"):
        shard(tmp_path / f"{split}-0.tar", [("a", "owl\n", 0), ("b", "cat", 1)])
    assert open_dataset(tmp_path, "train").classes == ("cat", "owl")


def test_padding_is_that_of_both_splits(tmp_path: Path) -> None:
    shard(tmp_path / "train-0.tar", [(str(i), i, i) for i in range(11)])
    shard(tmp_path / "val-0.tar", [(str(i), i, i) for i in range(10)])
    assert "'val' lacks classes that train has: '10'" in message(tmp_path, "test")
    assert "'val' lacks classes that train has: '10'" in message(tmp_path)


@pytest.mark.parametrize(
    "keys", [("cat_1.v1", "cat_1.v2"), ("22.5_cat", "23.5_cat"), ("dr. cat 0", "dr. cat 1")]
)
def test_keys_may_hold_dots(tmp_path: Path, keys: tuple[str, str]) -> None:
    for split in ("train", "val"):
        shard(tmp_path / f"{split}-0.tar", [(keys[0], "cat", 0), (keys[1], "dog", 1)])
    data = open_dataset(tmp_path, "train")
    assert data.counts == (1, 1)
    assert list(data.names) == [f"cat/train-0/{keys[0]}.png", f"dog/train-0/{keys[1]}.png"]
    assert torch.equal(pixels(data, None), torch.stack([picture(0), picture(1)]))


def test_an_image_that_only_the_first_dot_gives_to_a_sample_is_no_sample_of_its_own(tmp_path: Path) -> None:
    members = [("a.jpg", jpeg(picture(0))), ("a.cls", b"0"), ("a.seg.png", b"mask"), ("a.coarse.cls", b"7")]
    members += [("b.jpg", jpeg(picture(1))), ("b.cls", b"1")]
    tar(tmp_path / "train.tar", members)
    assert list(open_dataset(tmp_path, "train").names) == ["0/train/a.jpg", "1/train/b.jpg"]
    tar(tmp_path / "train.tar", [*members, ("c.left.png", b"x"), ("c.cls", b"1")])
    found = [str(problem) for problem in open_split(tmp_path, "train").problems]
    assert found == [
        "'train/c.left.png' has no label; add a .cls member with its class, or remove it",
        "'train/c' has a label but no image, only .left.png; expected .jpg, .jpeg or .png with the same name",
    ]


@pytest.mark.parametrize("label", ['{"label": 2}', '{"cls": "2"}', '{"class": "002", "x": 1}', "2", '"2"'])
def test_labels_may_be_json(tmp_path: Path, label: str) -> None:
    members = [("a.png", png(picture(0))), ("a.json", label.encode()), ("b.png", png(picture(1)))]
    tar(tmp_path / "train.tar", [*members, ("b.cls", b'"1"'), ("b.json", b'{"label": 5}')])
    data = open_dataset(tmp_path, "train")
    assert data.classes == ("1", "2")
    assert torch.equal(pixels(data, None), torch.stack([picture(1), picture(0)]))
    tar(tmp_path / "train.tar", [*members[:1], ("a.json", b'{"caption": "x", "label": true}'), *members[2:]])
    assert "'train/a.png' has no label" in message(tmp_path)


@pytest.mark.parametrize("train", ["imagenet1k-train-{}.tar", "in1k.train.{}.tar", "set_train_{}.tar"])
def test_shards_as_hubs_name_them(tmp_path: Path, train: str) -> None:
    root = shards(tmp_path, train, train.replace("train", "validation"))
    assert open_dataset(root, "train").counts == (1, 2, 2)
    assert len(open_dataset(root, "test")) == 3


def test_archives_beside_the_class_folders_are_no_shards(tmp_path: Path) -> None:
    for split in ("train", "val"):
        for name in ("cat", "dog"):
            write(tmp_path, f"{split}/{name}/1.png", png(picture(0)))
    tar(tmp_path / "ILSVRC2012_img_test.tar", [("1.JPEG", b"x")])
    assert open_dataset(tmp_path, "train").reader.layout == "ImageFolder"


def test_compressed_shards_and_shards_without_samples_say_so(tmp_path: Path) -> None:
    tar(tmp_path / "train-0.tar.gz", [("a.png", png(picture(0))), ("a.cls", b"0")], "w:gz")
    assert f"(for .tar.gz: `gunzip {tmp_path}/train-0.tar.gz`)" in message(tmp_path)
    tar(tmp_path / "val-0.tar", [("n01440764.tar", b"x")])
    assert "'val-0/' holds no samples; expected members such as 000.jpg with 000.cls" in message(
        tmp_path, "test"
    )


def test_members_in_any_order_and_folder(tmp_path: Path) -> None:
    members = [
        ("./x/a.JPEG", jpeg(picture(0, 8, 8))),
        ("./x/b.cls", b"1"),
        ("./y/a.cls", b"1"),
        ("./x/a.cls", b"0"),
    ]
    members += [
        ("./x/b.seg.png", b"mask"),
        ("./x/b.jpg", jpeg(picture(1, 8, 8))),
        ("./y/a.png", png(picture(2, 8, 8))),
    ]
    members += [("./x/._a.jpg", b"finder"), ("__index__", b"")]
    tar(tmp_path / "train.tar", members)
    data = open_dataset(tmp_path, "train")
    assert list(data.names) == ["0/train/x/a.jpeg", "1/train/x/b.jpg", "1/train/y/a.png"]
    assert torch.equal(pixels(data, None)[2], picture(2, 8, 8))


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        ([("9.png", png(picture(9)))], "'0000/9.png' has no label"),
        ([("9.cls", b"2"), ("9.webp", b"x")], "'0000/9' has a label but no image, only .webp"),
        ([("9.cls", b"2")], "'0000/9' has a label but no image; expected .jpg, .jpeg or .png with"),
        ([("00.jpg", b"x")], "'0000/00.jpg' is a second image of its sample"),
        ([("00.cls", b"2")], "'0000/00.cls' is a second label of its sample"),
        ([("9.cls", b"../../etc"), ("9.png", b"x")], "'0000/9.cls' names a class '../../etc'"),
        ([("9.cls", b""), ("9.png", b"x")], "names a class ''"),
        ([("9.cls", b"\0\1"), ("9.png", b"x")], "names a class '\\x00\\x01'"),
        ([("9.cls", b"x" * 1000), ("9.png", b"x")], "names a class 'xxx"),
        ([("../9.cls", b"2"), ("../9.png", b"x")], "'0000/../9.cls' is a member whose name leads out"),
        ([("/9.png", b"x")], "leads out of the archive"),
    ],
)
def test_bad_samples(tmp_path: Path, extra: list[tuple[str, bytes]], expected: str) -> None:
    shards(tmp_path)
    shard(tmp_path / "train/0000.tar", TRAIN[0], extra)
    assert expected in message(tmp_path)
    assert any(expected in str(problem) for problem in check(tmp_path))


def test_labels_outside_of_the_list(tmp_path: Path) -> None:
    shards(tmp_path)
    write(tmp_path, "classes.txt", "\n".join(f"c{i}" for i in range(10)).encode())
    assert "has the label '10', none of the 10 classes of the list" in message(tmp_path)
    for wanted, content in (
        ("holds 'a' 2 times", b"a\nb\na\n"),
        ("names a class '../a'", b"b\n../a"),
        ("names a class ''", b"b\n\na"),
        ("cannot be read", b"\xff\xfe\xff"),
    ):
        write(tmp_path, "classes.txt", content)
        assert wanted in message(tmp_path)
    (tmp_path / "classes.txt").unlink()
    for wanted, content in (("is no list of names", b'{"a": 1}'), ("cannot be read", b"[" * 100_000)):
        write(tmp_path, "classes.json", content)
        assert wanted in message(tmp_path)
    (tmp_path / "classes.json").unlink()
    write(tmp_path, "classes.txt", b"\n".join(b"c%02d" % i for i in range(11)))
    assert "'train/c01' holds no images" in message(tmp_path)


def test_damaged_shards(tmp_path: Path) -> None:
    shards(tmp_path)
    path = tmp_path / "train/0001.tar"
    whole = path.read_bytes()
    with tarfile.open(path) as archive:
        end = max(member.offset_data + member.size for member in archive)
    for keep in (0, 100, 512, 1500, end - 30):
        path.write_bytes(whole[:keep])
        assert "'0001.tar' cannot be used" in message(tmp_path), keep
    flipped = bytearray(whole)
    flipped[flipped.index(b"03.png")] ^= 1
    path.write_bytes(flipped)
    assert "bad checksum" in message(tmp_path)
    tar(path, [("03.cls", b"2"), ("03.png", png(picture(3)))], "w:gz")
    assert "is compressed; store shards as plain .tar" in message(tmp_path)
    assert sum("0001.tar" in str(problem) for problem in check(tmp_path)) == 1


def test_links_out_of_the_folder(tmp_path: Path) -> None:
    root = shards(tmp_path / "set")
    (root / "train/0000.tar").rename(tmp_path / "elsewhere.tar")
    (root / "train/0000.tar").symlink_to(tmp_path / "elsewhere.tar")
    assert "leads out of the data folder" in message(root)
    assert open_dataset(root, "train", follow_links=True).counts == (1, 2, 2)
    (root / "train/0000.tar").unlink()
    os.mkfifo(root / "train/0000.tar")
    assert "is not a plain file" in message(root)


def test_a_bad_image_is_named(tmp_path: Path) -> None:
    shards(tmp_path)
    shard(tmp_path / "train/0000.tar", TRAIN[0], [("9.cls", b"2"), ("9.png", png(picture(9))[:-20])])
    data = open_dataset(tmp_path, "train")
    with pytest.raises(InputError, match=r"train/02/0000/9.png.*cut short"):
        pixels(data, (6, 6))
    ((number, reason),) = scan(data)
    assert data.names[number] == "02/0000/9.png"
    assert "train/02/0000/9.png is a PNG cut short" in reason


# -- headers that are read all at once -------------------------------------------------------------


def tar_of(path: Path, members: list[tarfile.TarInfo], form: int = tarfile.USTAR_FORMAT) -> Path:
    """A tar of members that hold as many letters as they say."""
    with tarfile.open(path, "w", format=form) as tar:
        for member in members:
            tar.addfile(member, io.BytesIO(b"x" * member.size) if member.isreg() else None)
    return path


def member(name: str, size: int = 0, **changes: object) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size = size
    for key, value in changes.items():
        setattr(info, key, value)
    return info


def by_tarfile(path: Path) -> list[tuple[str, bool, int, int]]:
    with tarfile.open(path) as tar:
        return [(found.name, found.isdir(), found.size, found.offset_data) for found in tar]


def at_once(path: Path) -> list[tuple[str, bool, int, int]] | None:
    with open(path, "rb") as file:
        headers = plain_headers(file)
        return None if headers is None else list(headers.members())


PLAIN = [member("a.jpg", 700), member("a.cls", 3), member("b/", type=tarfile.DIRTYPE), member("b/c.png", 512)]


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_plain_headers_are_those_of_tarfile(tmp_path: Path, form: int) -> None:
    path = tar_of(tmp_path / "plain.tar", PLAIN, form)
    assert at_once(path) == by_tarfile(path)
    timed = [member("a.jpg", 10, mtime=1699999999.25), member("b.jpg", 0, mtime=1.5)]
    path = tar_of(tmp_path / "times.tar", timed, form)  # WebDataset's writer notes such times
    assert at_once(path) == by_tarfile(path)


@pytest.mark.parametrize(
    "unusual",
    [
        member("a" * 120 + ".jpg", 3),
        member("folder/" * 15 + "a.jpg", 3),
        member("ä.jpg", 3),
        member("a.jpg", type=tarfile.SYMTYPE, linkname="b.jpg"),
        member("a.jpg", type=tarfile.FIFOTYPE),
        member("a.jpg", 3, pax_headers={"comment": "more"}),
    ],
)
def test_an_unusual_member_is_left_to_tarfile(tmp_path: Path, unusual: tarfile.TarInfo) -> None:
    assert at_once(tar_of(tmp_path / "a.tar", [*PLAIN, unusual], tarfile.PAX_FORMAT)) is None


@pytest.mark.parametrize("place", [3, 130, 150, 156, 400])
def test_a_damaged_header_is_left_to_tarfile(tmp_path: Path, place: int) -> None:
    path = tar_of(tmp_path / "a.tar", PLAIN)
    content = bytearray(path.read_bytes())
    content[2 * 512 + 1024 - 512 + place] ^= 1  # of the second header
    path.write_bytes(content)
    assert at_once(path) is None


def test_a_tar_without_its_end_is_left_to_tarfile(tmp_path: Path) -> None:
    path = tar_of(tmp_path / "a.tar", PLAIN)
    path.write_bytes(path.read_bytes()[: 512 * 4])
    assert at_once(path) is None
    path.write_bytes(b"")
    assert at_once(path) is None

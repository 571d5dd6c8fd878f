"""fastdd.data: the index of shards that is kept in the cache, when it is used, and when it is made again."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from pictures import picture, png, tar

from fastdd.data import Dataset, open_dataset
from fastdd.data.sources import kept_index, webdataset
from fastdd.runtime.files import cache_folder

LONG_AGO = 1_700_000_000_000_000_000  # ns


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """The shards whose headers were read, in order, where an index of a few images is kept already."""
    monkeypatch.setenv("FASTDD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(kept_index, "LEAST", 4)
    found: list[str] = []
    add = webdataset._add_shard

    def noted(samples: webdataset.Samples, path: Path, part: int, problems: list[webdataset.Problem]) -> None:
        found.append(f"{path.parent.name}/{path.name}")
        add(samples, path, part, problems)

    monkeypatch.setattr(webdataset, "_add_shard", noted)
    return found


def shards(root: Path, split: str = "train", *, labels: tuple[str, ...] = ("2", "10", "2", "10")) -> Path:
    """Two shards of a split, last changed long ago."""
    for number in range(2):
        members = []
        for key, label in enumerate(labels):
            members += [(f"{key}.cls", label.encode()), (f"{key}.png", png(picture(4 * number + key)))]
        age(tar(root / split / f"{number}.tar", members))
    return root


def age(path: Path, by: int = 0) -> None:
    os.utime(path, ns=(LONG_AGO + by, LONG_AGO + by))


def content(data: Dataset) -> tuple[object, ...]:
    """All that an index tells, with the bytes of every image."""
    files = [bytes(data.reader.encoded(number) or b"") for number in range(len(data))]
    return data.classes, data.counts, list(data.names), data.fingerprint, data.labels.tolist(), files


def kept(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "cache" / "index").glob("*"))


def test_a_kept_index_tells_the_same_and_reads_no_shard(tmp_path: Path, read: list[str]) -> None:
    root = shards(shards(tmp_path / "data"), "val")
    first = content(open_dataset(root, "train"))
    assert read == ["train/0.tar", "train/1.tar", "val/0.tar", "val/1.tar"]
    read.clear()
    assert content(open_dataset(root, "train")) == first
    assert read == []
    assert len(kept(tmp_path)) == 1  # and nothing beside the data
    assert sorted(path.name for path in root.rglob("*")) == [
        "0.tar",
        "0.tar",
        "1.tar",
        "1.tar",
        "train",
        "val",
    ]


def test_splits_and_roots_have_indices_of_their_own(tmp_path: Path, read: list[str]) -> None:
    for name in ("one", "two"):
        root = shards(shards(tmp_path / name), "val")
        for split in ("train", "test"):
            open_dataset(root, split)  # type: ignore[arg-type]
    assert len(kept(tmp_path)) == 4


def _content_changes(root: Path) -> None:
    shards(root, labels=("2", "10", "10", "10"))


def _times_change(root: Path) -> None:
    age(root / "train" / "1.tar", by=1)


def _a_shard_comes(root: Path) -> None:
    (root / "train" / "2.tar").write_bytes((root / "train" / "1.tar").read_bytes())
    age(root / "train" / "2.tar")


def _a_shard_goes(root: Path) -> None:
    (root / "train" / "1.tar").unlink()


def _labels_of_the_other_split_change(root: Path) -> None:
    shards(root, "val", labels=("2", "10", "2", "100"))


def _classes_get_names(root: Path) -> None:
    (root / "classes.txt").write_text("\n".join(f"class{number}" for number in range(11)))


@pytest.mark.parametrize(
    "change",
    [
        _content_changes,
        _times_change,
        _a_shard_comes,
        _a_shard_goes,
        _labels_of_the_other_split_change,
        _classes_get_names,
    ],
)
def test_the_index_is_made_again_when_what_it_was_made_from_changes(
    tmp_path: Path, read: list[str], monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], None]
) -> None:
    root = shards(shards(tmp_path / "data"), "val")
    open_dataset(root, "train")
    change(root)
    read.clear()
    found = _content_or_problem(root)
    assert read
    monkeypatch.setenv("FASTDD_CACHE", "")
    assert found == _content_or_problem(root)


def _content_or_problem(root: Path) -> object:
    try:
        return content(open_dataset(root, "train"))
    except ValueError as error:
        return str(error)


@pytest.mark.parametrize("damage", ["cut", "a bit", "other", "empty"])
def test_a_damaged_index_is_made_again_and_said(
    tmp_path: Path, read: list[str], capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    root = shards(tmp_path / "data")
    first = content(open_dataset(root, "train"))
    (path,) = kept(tmp_path)
    whole = path.read_bytes()
    flipped = whole[:-3] + bytes([whole[-3] ^ 1]) + whole[-2:]
    path.write_bytes({"cut": whole[:-8], "a bit": flipped, "other": b"no index", "empty": b""}[damage])
    capsys.readouterr()
    assert content(open_dataset(root, "train")) == first
    (line,) = capsys.readouterr().err.splitlines()
    assert "is damaged" in line
    assert line.endswith("the index is made again")
    assert path.read_bytes() == whole


def test_no_index_is_kept_of_what_changed_just_now(tmp_path: Path, read: list[str]) -> None:
    root = shards(tmp_path / "data")
    os.utime(root / "train" / "0.tar")
    open_dataset(root, "train")
    assert kept(tmp_path) == []


def test_no_index_is_kept_of_few_images_or_without_a_cache(
    tmp_path: Path, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = shards(tmp_path / "data")
    monkeypatch.setattr(kept_index, "LEAST", 9)
    open_dataset(root, "train")
    monkeypatch.setattr(kept_index, "LEAST", 4)
    monkeypatch.setenv("FASTDD_CACHE", "")
    open_dataset(root, "train")
    assert kept(tmp_path) == []


def test_a_cache_that_cannot_be_written_is_said_and_costs_no_result(
    tmp_path: Path, read: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    root = shards(tmp_path / "data")
    (tmp_path / "cache").write_text("a file where the folder belongs")
    open_dataset(root, "train")
    (line,) = capsys.readouterr().err.splitlines()
    assert "is not kept" in line
    assert "FASTDD_CACHE" in line


def test_the_cache_lies_where_the_system_has_caches(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("FASTDD_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "fastdd"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "fastdd"
    monkeypatch.setenv("FASTDD_CACHE", "")
    assert cache_folder() is None

"""fastdd.data: what is wrong with a root, a layout or an archive, and what is rightly ignored."""

from __future__ import annotations

import io
import os
import stat
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.io import encode_png

from fastdd.cli import main
from fastdd.data import check, open_dataset
from fastdd.errors import InputError
from fastdd.runtime import memory


def picture(seed: int, height: int = 6, width: int = 6, channels: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (channels, height, width), generator=generator, dtype=torch.uint8)


def png(image: Tensor) -> bytes:
    return encode_png(image).numpy().tobytes()


def write(root: Path, path: str, content: bytes) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_bytes(content)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two classes of 3 and 2 training images and one test image each, written in an unsorted order."""
    names = ["train/dog/b.png", "train/cat/10.png", "train/cat/9.png", "train/dog/a.PNG", "train/cat/x.png"]
    for seed, name in enumerate([*names, "val/dog/t.png", "val/cat/t.png"]):
        write(tmp_path / "pets", name, png(picture(seed)))
    return tmp_path / "pets"


def pack(root: Path, target: Path, mode: Any = "w", top: str = "") -> Path:
    with tarfile.open(target, mode) as tar:
        tar.add(root, arcname=top or ".")
    return target


def message(root: str | Path, split: str = "train") -> str:
    with pytest.raises(InputError) as caught:
        open_dataset(root, split)  # type: ignore[arg-type]
    return str(caught.value)


# -- what is wrong with a root --------------------------------------------------------------------


def test_missing_root_suggests_a_neighbour(root: Path) -> None:
    assert "did you mean" in message(root.parent / "pest")
    assert str(root) in message(root.parent / "pest")
    assert "'digits'" in message("digit")
    assert "expected 'train' or 'test'" in message(root, "trian")


def test_empty_root_and_missing_splits(root: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "is empty" in message(tmp_path / "empty")
    assert f"{str(root)!r} has" in message(root.parent)  # one level too high
    (root / "train").rename(root / "training")
    assert "no train/ folder; found 'training', 'val'" in message(root)
    (root / "val").rename(root / "holdout")
    assert "no test/, val/, validation/ or valid/ folder; found 'holdout', 'training'" in message(
        root, "test"
    )


def test_missing_splits_of_an_archive(root: Path, tmp_path: Path) -> None:
    archive = pack(root / "train", tmp_path / "a.tar", top="pets")
    assert "no train/ folder; found 'pets'" in message(archive)


@pytest.mark.parametrize(
    ("path", "content", "expected"),
    [
        ("train/cat/notes.pdf", b"x", "'train/cat/notes.pdf' is not an image"),
        ("train/cat/deep/1.png", b"x", "'train/cat/deep' is a folder inside a class folder"),
        ("train/loose.png", b"x", "'train/loose.png' lies in no class folder"),
        ("train/owl/1.png", b"x", "'val' lacks classes that train has: 'owl'"),
        ("val/owl/1.png", b"x", "'train' lacks classes that val has: 'owl'"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_wrong_layout(
    root: Path, tmp_path: Path, path: str, content: bytes, expected: str, packed: bool
) -> None:
    write(root, path, content)
    assert expected in message(pack(root, tmp_path / "a.tar") if packed else root)


@pytest.mark.parametrize("packed", [False, True])
def test_empty_class_and_single_class(root: Path, tmp_path: Path, packed: bool) -> None:
    for split in ("train", "val"):
        (root / split / "owl").mkdir()
        write(root, f"{split}/owl/readme.txt", b"x")
    assert "'train/owl' holds no images" in message(pack(root, tmp_path / "a.tar") if packed else root)
    for split in ("train", "val"):
        for name in ("dog", "owl"):
            for path in (root / split / name).iterdir():
                path.unlink()
            (root / split / name).rmdir()
    assert "1 class folders ('cat'); expected at least 2" in message(
        pack(root, tmp_path / "b.tar") if packed else root
    )


def test_ignored_files(root: Path, tmp_path: Path) -> None:
    clean = open_dataset(root, "train")
    for path in (
        ".DS_Store",
        "train/.DS_Store",
        "train/cat/Thumbs.db",
        "train/cat/._9.png",
        "train/meta.csv",
    ):
        write(root, path, b"x")
    for path in ("train/dog/labels.JSON", "readme.pdf", "meta/table.xls", "train/.ipynb_checkpoints/1.png"):
        write(root, path, b"x")
    assert open_dataset(root, "train").fingerprint == clean.fingerprint
    assert open_dataset(pack(root, tmp_path / "a.tar", top="pets"), "train").fingerprint == clean.fingerprint


@pytest.mark.parametrize("packed", [False, True])
def test_images_that_a_dot_hides_are_told_and_are_no_problem(
    root: Path, tmp_path: Path, packed: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in ("train/.emu/1.png", "train/.emu/2.png", "train/cat/.9.png", "train/cat/._9.png"):
        write(root, path, png(picture(0)))
    write(root, "train/@eaDir/1.png", b"x")
    place = pack(root, tmp_path / "a.tar") if packed else root
    assert main(["data", "check", str(place)]) == 0
    out, err = capsys.readouterr()
    assert out == f"{place}: no problems\n"
    assert err.count("note: ") == 1
    assert err.startswith(
        f"{place}: note: 3 images of train/ are left out, since a name begins with a dot: '.emu/1.png' and 2 "
        "more; rename what you want to use\n"
    )
    assert len(open_dataset(place, "train")) == 5
    assert not capsys.readouterr().err  # it was said


def test_a_hidden_folder_that_cannot_be_listed_is_left_alone(root: Path) -> None:
    write(root, "train/.Trash/1.png", b"x")
    (root / "train/.Trash").chmod(0)
    try:
        assert len(open_dataset(root, "train")) == 5
    finally:
        (root / "train/.Trash").chmod(0o755)


@pytest.mark.parametrize("packed", [False, True])
def test_what_systems_leave_is_ignored_in_any_case(root: Path, tmp_path: Path, packed: bool) -> None:
    clean = open_dataset(root, "train")
    files = ("thumbs.db", "THUMBS.DB", "ehthumbs.db", "Desktop.ini", "Icon\r", "@eaDir/1.png", "features.npy")
    tables = ("metadata.jsonl", "boxes.xml", "README.md", "labels.tsv", "meta.yaml")
    for name in (*files, *tables):
        write(root, f"train/cat/{name}", b"x")
    for name in ("lost+found/1.png", "$RECYCLE.BIN/1.png", "@eaDir/1.png", "metadata.jsonl"):
        write(root, f"train/{name}", b"x")
    place = pack(root, tmp_path / "a.tar") if packed else root
    assert open_dataset(place, "train").fingerprint == clean.fingerprint
    assert open_dataset(place, "train").classes == ("cat", "dog")


@pytest.mark.parametrize("name", ["validation", "valid"])
@pytest.mark.parametrize("packed", [False, True])
def test_held_out_images_may_lie_in_validation_or_valid(
    root: Path, tmp_path: Path, name: str, packed: bool
) -> None:
    wanted = open_dataset(root, "test")
    (root / "val").rename(root / name)
    found = open_dataset(pack(root, tmp_path / "a.tar") if packed else root, "test")
    assert (found.names, found.fingerprint) == (wanted.names, wanted.fingerprint)


@pytest.mark.parametrize("packed", [False, True])
def test_a_flat_split_is_one_problem_that_says_how_to_make_folders(
    root: Path, tmp_path: Path, packed: bool
) -> None:
    for path in sorted((root / "val").rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    for number in range(3):
        write(root, f"val/ILSVRC2012_val_{number:08d}.JPEG", png(picture(number)))
    place = pack(root, tmp_path / "a.tar") if packed else root
    text = message(place, "test")
    assert "'val' holds 3 images and no class folders, as ImageNet's val/ is distributed" in text
    assert "sort them into val/CLASS/IMAGE" in text
    assert "more" not in text
    assert len(open_dataset(place, "train")) == 5


def test_only_train_is_enough_for_train(root: Path) -> None:
    for path in sorted((root / "val").rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    (root / "val").rmdir()
    assert len(open_dataset(root, "train")) == 5


def test_links_and_special_files(root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside.png"
    outside.write_bytes(png(picture(0)))
    inside = root / "train/cat/inside.png"
    inside.symlink_to("x.png")
    assert len(open_dataset(root, "train")) == 6
    inside.unlink()
    for target, expected in ((outside, "leads out of the data folder"), (tmp_path / "no", "leads nowhere")):
        (root / "train/cat/link.png").symlink_to(target)
        assert f"'train/cat/link.png' is a link that {expected}" in message(root)
        (root / "train/cat/link.png").unlink()
    os.mkfifo(root / "train/cat/pipe.png")
    assert "'train/cat/pipe.png' is not a plain file" in message(root)
    alias = tmp_path / "alias"
    (root / "train/cat/pipe.png").unlink()
    alias.symlink_to(root)
    assert len(open_dataset(alias, "train")) == 5


def cached(root: Path, cache: Path) -> Path:
    """A hub's snapshot of a data set: each file is a link to ../../blobs."""
    for number, path in enumerate(sorted(path for path in root.rglob("*") if path.is_file())):
        link = cache / "snapshots" / "main" / path.relative_to(root)
        write(cache, f"blobs/{number}", path.read_bytes())
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(cache / f"blobs/{number}", link.parent))
    return cache / "snapshots" / "main"


def test_links_out_of_the_folder_are_followed_where_that_is_asked_for(root: Path, tmp_path: Path) -> None:
    snapshot = cached(root, tmp_path / "cache")
    assert "leads out of the data folder (data.follow_links=true follows it)" in message(snapshot)
    for split in ("train", "test"):
        wanted, found = open_dataset(root, split), open_dataset(snapshot, split, follow_links=True)
        assert (found.names, found.fingerprint) == (wanted.names, wanted.fingerprint)
        assert found.reader.encoded(0) == wanted.reader.encoded(0)
    assert check(snapshot)
    assert check(snapshot, follow_links=True) == []
    assert "leads out" in message(snapshot)  # what was allowed once is not allowed for ever


def test_class_folders_and_splits_that_are_links_are_followed_where_that_is_asked_for(
    root: Path, tmp_path: Path
) -> None:
    linked = tmp_path / "linked"
    (linked / "train").mkdir(parents=True)
    (linked / "val").symlink_to(root / "val")
    for name in ("cat", "dog"):
        (linked / "train" / name).symlink_to(root / "train" / name)
    for split in ("train", "test"):
        found = open_dataset(linked, split, follow_links=True)
        assert found.fingerprint == open_dataset(root, split).fingerprint
    assert "is a link that leads out of the data folder (data.follow_links=true" in message(linked)
    assert f"'{linked}/val' is a link that leads out of the data folder" in message(linked, "test")
    (linked / "train" / "owl").symlink_to(tmp_path / "nowhere")
    with pytest.raises(InputError, match="is a link that leads nowhere"):
        open_dataset(linked, "train", follow_links=True)


# -- hostile and damaged archives -----------------------------------------------------------------


def archive_with(target: Path, extra: list[tarfile.TarInfo], mode: Any = "w") -> Path:
    """A sound archive with a few more members."""
    content = png(picture(0))
    with tarfile.open(target, mode, format=tarfile.PAX_FORMAT) as tar:
        for name in ("train/cat/1.png", "train/dog/1.png", "test/cat/1.png", "test/dog/1.png"):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        for member in extra:
            member.size = 1 if member.isreg() else 0
            tar.addfile(member, io.BytesIO(b"x"))
    return target


def member_of(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, link
    return member


@pytest.mark.parametrize(
    ("member", "expected"),
    [
        (member_of("../evil.png"), "leads out of the archive"),
        (member_of("train/cat/../../../evil.png"), "leads out of the archive"),
        (member_of("/train/cat/2.png"), "leads out of the archive"),
        (member_of("train/cat/..\\2.png"), "leads out of the archive"),
        (member_of("train/cat/2.png", tarfile.SYMTYPE, "/etc/passwd"), "is a link"),
        (member_of("train/cat/2.png", tarfile.LNKTYPE, "train/cat/1.png"), "is a link"),
        (member_of("train/cat/2.png", tarfile.CHRTYPE), "not a plain file"),
        (member_of("train/cat/2.png", tarfile.FIFOTYPE), "not a plain file"),
        (member_of("other/train/cat/2.png"), "second tree"),
        (member_of("train/cat/1.png"), "occurs more than once"),
    ],
)
@pytest.mark.parametrize("mode", ["w", "w:xz"])
def test_unsafe_members(tmp_path: Path, member: tarfile.TarInfo, expected: str, mode: str) -> None:
    text = message(archive_with(tmp_path / "a.tar", [member], mode))
    assert expected in text
    assert repr(member.name) in text or "second tree" in expected


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz"])
@pytest.mark.parametrize("keep", [0.0, 0.3, 0.6, 0.85])
def test_cut_archive(tmp_path: Path, mode: str, keep: float) -> None:
    archive = archive_with(tmp_path / "a.tar", [], mode)
    content = archive.read_bytes()
    if mode == "w":
        content = content[: 4 * 1024 + 1024]  # without the padding to a record
    archive.write_bytes(content[: int(len(content) * keep)])
    assert "cut short" in message(archive)


def test_damaged_header_is_no_silent_end(tmp_path: Path) -> None:
    archive = archive_with(tmp_path / "a.tar", [])
    content = bytearray(archive.read_bytes())
    content[content.index(b"train/dog/1.png")] ^= 1
    archive.write_bytes(content)
    assert "bad checksum" in message(archive)


def test_not_an_archive(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(b"PK\3\4" + bytes(range(256)) * 8)
    assert "no archive that fastdd can read" in message(tmp_path / "a.tar")


def zipped(root: Path, target: Path, top: str = "", method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(target, "w", method) as archive:
        for path in sorted(root.rglob("*")):
            archive.write(path, f"{top}{path.relative_to(root)}")
    return target


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("top", ["", "pets/"])
def test_a_zip_is_read_as_its_folder_is(root: Path, tmp_path: Path, top: str, method: int) -> None:
    archive = zipped(root, tmp_path / "a.zip", top, method)
    for split in ("train", "test"):
        wanted, found = open_dataset(root, split), open_dataset(archive, split)
        assert (found.names, found.fingerprint) == (wanted.names, wanted.fingerprint)
        assert found.reader.layout == "ImageFolder, zip"
        for number in range(len(wanted)):
            assert found.reader.encoded(number) == wanted.reader.encoded(number)


def test_a_tar_of_bzip2_is_read_as_its_folder_is(root: Path, tmp_path: Path) -> None:
    wanted, found = (
        open_dataset(root, "train"),
        open_dataset(pack(root, tmp_path / "a.tbz", "w:bz2"), "train"),
    )
    assert found.fingerprint == wanted.fingerprint
    assert found.reader.encoded(0) == wanted.reader.encoded(0)
    whole = (tmp_path / "a.tbz").read_bytes()
    for spoilt in (whole[: len(whole) // 2], whole[:20] + b"\xff" * 20 + whole[40:]):
        (tmp_path / "a.tbz").write_bytes(spoilt)
        assert "damaged or cut short" in message(tmp_path / "a.tbz")


def test_a_zip_with_unsafe_members_or_damage_is_refused(root: Path, tmp_path: Path) -> None:
    archive = zipped(root, tmp_path / "a.zip")
    whole = archive.read_bytes()
    archive.write_bytes(whole[: len(whole) // 2])
    assert "damaged or cut short" in message(archive)
    link = zipfile.ZipInfo("train/cat/link.png")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    for member, expected in (("../evil.png", "leads out of the archive"), (link, "is a link")):
        archive.write_bytes(whole)
        with zipfile.ZipFile(archive, "a") as changed:
            changed.writestr(member, b"/etc/passwd")
        assert expected in message(archive)
    encrypted = bytearray(whole)
    encrypted[encrypted.index(b"PK\1\2") + 8] |= 1
    archive.write_bytes(encrypted)
    assert "is encrypted" in message(archive)


@pytest.mark.parametrize(
    ("magic", "expected"),
    [
        (b"\x28\xb5\x2f\xfd", "is compressed by zstd, which fastdd does not read; unpack it with `unzstd "),
        (b"7z\xbc\xaf\x27\x1c", "is a 7-Zip archive, which fastdd does not read; unpack it with `7z x "),
        (b"Rar!\x1a\x07", "is a RAR archive, which fastdd does not read; unpack it with `unrar x "),
    ],
)
def test_archives_that_are_not_read_are_named(tmp_path: Path, magic: bytes, expected: str) -> None:
    (tmp_path / "a.tar.zst").write_bytes(magic + bytes(100))
    assert expected in message(tmp_path / "a.tar.zst")


def test_compressed_archive_beyond_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = archive_with(tmp_path / "a.tar.xz", [], "w:xz")
    monkeypatch.setattr(memory, "available_memory", lambda: 100)
    assert "plain .tar" in message(archive)

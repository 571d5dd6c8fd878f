"""Distilled sets of any layout: which class each image has, and what becomes of bad ones."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from pictures import jpeg, picture, png, write
from run_folders import make_run_folder, write_splits
from torchvision.datasets import ImageFolder

from fastdd.config import RANDOM_REAL
from fastdd.distilled import list_set, open_set, set_name
from fastdd.distilled.images import load_recovered, stream_recovered
from fastdd.errors import InputError
from fastdd.run_folder import RunFolder


def fails(path: Path, **arguments: object) -> str:
    with pytest.raises(InputError) as caught:
        open_set(path, **arguments)  # type: ignore[arg-type]
    return str(caught.value)


def class_folders(root: Path, classes: Sequence[str], ipc: int = 2) -> Path:
    for c, name in enumerate(classes):
        for slot in range(ipc):
            write(root, f"{name}/{slot:05d}.png", png(picture(10 * c + slot)))
    return root


def run_folder(root: Path, arms: Sequence[str], classes: Sequence[str] = ("cat", "dog")) -> Path:
    make_run_folder(root, {"name": "pets", "ipc": 2, "arms": {"deda": {}, "dire": {}}}, classes)
    for arm in arms:
        class_folders(root / "images" / arm, classes)
    return root


# -- layouts --------------------------------------------------------------------------------------


def test_an_image_folder_is_read_as_torchvision_does(tmp_path: Path) -> None:
    root = class_folders(tmp_path, ("dog", "cat", "emu"), ipc=3)
    write(root, "README.md", b"beside the classes")
    distilled, reference = open_set(root), ImageFolder(root)
    assert distilled.classes == tuple(reference.classes)
    assert distilled.labels.tolist() == reference.targets
    assert [root / name for name in distilled.ids] == [Path(path) for path, _ in reference.samples]
    assert distilled.source is None
    assert distilled.images.dtype == torch.uint8
    assert torch.equal(distilled.images[distilled.ids.index("cat/00002.png")], picture(12))
    assert torch.equal(
        open_set(class_folders(tmp_path / "split" / "train", ("a", "b")).parent).labels,
        torch.tensor([0, 0, 1, 1]),
    )


def test_released_names_give_the_class_and_not_the_sort_order(tmp_path: Path) -> None:
    """LPLD's folders of more than 1000 classes have three digits: new1000 sorts before new101."""
    for c in (2, 101, 1000):
        for slot in (0, 2, 1000):
            write(tmp_path, f"new{c:03d}/class{c:03d}_id{slot:03d}.jpg", jpeg(picture(c + slot)))
    assert ImageFolder(tmp_path).classes == ["new002", "new1000", "new101"]
    distilled = open_set(tmp_path)
    assert distilled.classes == ("2", "101", "1000")
    assert distilled.labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert distilled.ids[5:7] == ("new101/class101_id1000.jpg", "new1000/class1000_id000.jpg")
    assert (
        distilled.classes_of([f"n{c:05d}" for c in range(1001)]).tolist() == [2] * 3 + [101] * 3 + [1000] * 3
    )
    with pytest.raises(InputError, match="class 1000 of the set is beyond the 1000 classes"):
        distilled.classes_of([f"n{c:05d}" for c in range(1000)])


def test_a_released_number_is_an_index_where_real_classes_are_named_by_numbers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """ImageFolder's order of "0" to "11" is 0, 1, 10, 11, 2, ...: the writer's number 10 is its class "8"."""
    real = sorted(map(str, range(12)))
    for c in range(12):
        write(tmp_path / "released", f"new{c:03d}/class{c:03d}_id000.jpg", jpeg(picture(c)))
    assert open_set(tmp_path / "released").classes_of(real).tolist() == list(range(12))
    assert "is taken as" not in capsys.readouterr().err
    with pytest.raises(InputError, match="class 11 of the set is beyond the 11 classes"):
        open_set(tmp_path / "released").classes_of([*real[:10], "11"])
    plain = open_set(class_folders(tmp_path / "plain", ("10", "2"), ipc=1))
    assert plain.classes_of(real).tolist() == [2, 4]
    assert "folder '10' is taken as the class of that name, which is number 2" in capsys.readouterr().err
    assert plain.classes_of([f"{c:02d}" for c in range(12)]).tolist() == [10, 2]
    assert "is taken as" not in capsys.readouterr().err


def test_released_names_must_say_one_class(tmp_path: Path) -> None:
    write(tmp_path, "new000/class000_id000.jpg", jpeg(picture(0)))
    write(tmp_path, "new001/class002_id000.jpg", jpeg(picture(0)))
    assert "'new001/class002_id000.jpg' is of class 2 by its name and 1 by its folder" in fails(tmp_path)
    (tmp_path / "new001/class002_id000.jpg").rename(tmp_path / "new001/5.jpg")
    assert "'new001/5.jpg' has a name without its class" in fails(tmp_path)


def test_numbered_folders_are_class_numbers(tmp_path: Path) -> None:
    """RDED's folders; of some classes only, they keep their numbers."""
    distilled = open_set(class_folders(tmp_path, ("00001", "00003")))
    assert distilled.classes == ("00001", "00003")
    assert distilled.classes_of(["ant", "bee", "cow", "doe"]).tolist() == [1, 1, 3, 3]
    assert distilled.classes_of(["00003", "00001"]).tolist() == [1, 1, 0, 0]  # equal names go first
    with pytest.raises(InputError, match="class 00003 of the set is beyond the 3 classes"):
        distilled.classes_of(["ant", "bee", "cow"])


def test_classes_of_which_a_set_has_no_images_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    distilled = open_set(class_folders(tmp_path, ("cat", "emu")))
    assert distilled.classes_of(["cat", "emu"]).tolist() == [0, 0, 1, 1]
    assert "none of" not in capsys.readouterr().err
    assert distilled.classes_of(["ant", "cat", "dog", "emu"]).tolist() == [1, 1, 3, 3]
    assert "has images of 2 of the 4 real classes, none of 'ant', 'dog'" in capsys.readouterr().err


def test_other_classes_are_shown(tmp_path: Path) -> None:
    distilled = open_set(class_folders(tmp_path, ("ant", "bee")))
    assert distilled.classes_of(["bee", "cow", "ant"]).tolist() == [2, 2, 0, 0]
    with pytest.raises(
        InputError, match=r"class 1 of the set is 'bee', which the real set lacks \(its class 1 is 'bea'"
    ):
        distilled.classes_of(["ant", "bea"])
    with pytest.raises(InputError, match=r"'bee', which the real set lacks \(it has 1 class"):
        distilled.classes_of(["ant"])


# -- pixels ---------------------------------------------------------------------------------------


def test_sizes_and_channels(tmp_path: Path) -> None:
    root = class_folders(tmp_path, ("a", "b"))
    write(root, "b/00002.png", png(picture(5, 6, 9)))
    assert "b/00002.png is 6 x 9 pixels, others are 6 x 6" in fails(root)
    assert open_set(root, size=4).images.shape == (5, 3, 4, 4)
    grey = open_set(root, size=6, channels=1).images
    assert grey.shape == (5, 1, 6, 6)
    assert torch.equal(open_set(root, size=6).images[4], picture(5, 6, 9)[:, :, 2:8])  # round(1.5) is 2
    assert "channels 2" in fails(root, channels=2)
    assert "size 0" in fails(root, size=0)


def test_bad_folders(tmp_path: Path) -> None:
    assert "no distilled set" in fails(tmp_path / "absent")
    assert "holds 0 class folders" in fails(tmp_path)
    root = class_folders(tmp_path, ("a", "b"))
    assert "no run folder, so it has no arm 'x'" in fails(root, arm="x")
    write(root, "b/00001.png", b"\x89PNG\r\n\x1a\n broken")
    assert "b/00001.png is a PNG cut short" in fails(root)
    (root / "b/00001.png").unlink()
    (root / "b/out.png").symlink_to("/etc/hostname")
    assert "'" + root.name + "/b/out.png' is a link that leads out" in fails(root)


# -- runs -----------------------------------------------------------------------------------------


def test_the_arm_of_a_run(tmp_path: Path) -> None:
    run = run_folder(tmp_path, ("random", "deda"))
    distilled = open_set(run)
    assert distilled.path == run / "images" / "deda"
    assert distilled.source is not None
    assert distilled.source.arm == "deda"
    assert distilled.source.recipe.ipc == 2
    assert distilled.source.metrics is None
    assert (
        open_set(run / "images", "random").path.name
        == open_set(run / "images" / "random").path.name
        == "random"
    )
    class_folders(run / "images" / "dire", ("cat", "dog"))
    assert "holds 'deda', 'dire', 'random'; name one of them (--arm)" in fails(run)
    assert "did you mean 'deda'?" in fails(run, arm="dede")
    assert "is arm 'deda', but arm 'dire' is asked for" in fails(run / "images" / "deda", arm="dire")


def test_an_arm_that_is_not_whole_is_refused(tmp_path: Path) -> None:
    run = run_folder(tmp_path, ("deda",))
    (run / "images/deda/dog/00001.png").unlink()
    assert "holds 1 image of class 'dog', others have 2, so it is not whole" in fails(run)
    write_splits(RunFolder(run), ("cat", "dog", "emu"))
    assert "is not whole" in fails(run)
    (run / "manifest.json").write_text("{")
    assert "manifest.json is damaged" in fails(run)


def test_images_that_the_run_did_not_make_are_refused(finished: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    classes = sorted((run / "images" / "deda").iterdir())
    for chosen in (classes[3:4], classes):
        for folder in chosen:
            shutil.copy(folder / "00000.png", folder / "00002.png")
        text = fails(run, arm="deda")
        assert "holds 3 images of class" in text
        assert text.endswith("but the run made 2; move away those that it did not make")


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("sets/mine", "mine"),
        ("sets/mine/train", "mine"),
        ("sets/mine/train/..", "mine"),
        ("sets/images/data", "images"),
        ("/train", "train"),
        ("hf:somebody/mine", "mine"),
        ("hf:somebody/train", "train"),
    ],
)
def test_a_set_is_called_as_its_folder_and_not_as_what_lies_in_it(path: str, name: str) -> None:
    assert set_name(path) == name


def test_a_listed_set_decodes_in_parts_what_an_open_one_holds(finished: Path, tmp_path: Path) -> None:
    for c in range(3):
        for i in range(4):
            write(tmp_path / "own", f"{c}/{i}.png", png(picture(10 * c + i, 8, 8)))
    for path, arm in ((tmp_path / "own", None), (finished, "deda")):
        whole, listed = open_set(path, arm), list_set(path, arm)
        parts = list(listed.batches(5))
        assert [len(part) for part in parts] == [5] * (len(whole) // 5) + [len(whole) % 5] * (
            len(whole) % 5 > 0
        )
        assert torch.equal(torch.cat(parts), whole.images)
        assert listed.shape == tuple(whole.images.shape[1:])
        rows = torch.tensor([3, 1, 2])
        assert torch.equal(torch.cat(list(listed.batches(2, rows))), whole.images[rows])
    write(tmp_path / "own", "2/3.png", png(picture(1, 9, 9)))
    with pytest.raises(InputError, match=r"3.png is 9 x 9 pixels, others are 8 x 8"):
        list(list_set(tmp_path / "own").batches(5))


def test_the_images_of_an_arm_come_in_batches_as_they_are_loaded(finished: Path) -> None:
    folder, names = RunFolder(finished).images("deda"), [str(c) for c in range(10)]
    images, _, _ = load_recovered(folder, names, 2, channels=1, method=RANDOM_REAL)
    parts = list(stream_recovered(folder, names, 2, 6, channels=1, method=RANDOM_REAL))
    assert [len(part) for part in parts] == [6, 6, 6, 2]
    assert torch.equal(torch.cat(parts), images)

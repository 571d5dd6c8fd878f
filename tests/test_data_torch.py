"""fastdd.data: torch Datasets of (image, label), as objects, from functions, and what is wrong with them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from galleries import pixels
from PIL import Image
from torch import Tensor
from torch.utils.data import IterableDataset, Subset, TensorDataset

import fastdd
from fastdd.cli import main
from fastdd.config import Recipe
from fastdd.data import check, open_dataset
from fastdd.data.real_data import RealData, with_datasets
from fastdd.data.sources.base import SOURCES
from fastdd.data.sources.torch_dataset import give_datasets
from fastdd.data.sources.torch_items import to_label, to_pixels
from fastdd.data.verify import BadImage
from fastdd.errors import InputError

TINY = """\
ipc: 1
data: {channels: 1}
teacher: {network: resnet8, mean: [0.3], std: [0.4], epochs: 1, batch: 16, pad: 1}
arms: {sre2l: {method: sre2l, steps: 2}}
student: {network: resnet8, steps: 2, batch: 4, pad: 1, seeds: 1, evaluations: 1}
"""


def picture(seed: int, channels: int = 3, side: int = 8) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (channels, side, side), generator=random, dtype=torch.uint8)


class Listed:
    """A map-style Dataset of the items in a list; counts how many were asked for."""

    def __init__(self, items: Sequence[Any], **attributes: Any) -> None:
        self.items, self.asked = list(items), 0
        self.__dict__.update(attributes)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        self.asked += 1
        return self.items[index]


def pair(channels: int = 3) -> tuple[Listed, Listed]:
    """Two classes whose labels alternate: 8 training and 4 test images."""
    train, test = (
        Listed([(picture(seed, channels), seed % 2) for seed in seeds]) for seeds in (range(8), range(8, 12))
    )
    return train, test


def opened(train: object, test: object | None = None, split: str = "train", **options: Any) -> Any:
    root = give_datasets((train, train if test is None else test))
    return open_dataset(root, split, **options)


def message(train: object, test: object | None = None, size: int | None = None) -> str:
    """The error of a run on these data, before any work."""
    recipe = Recipe.model_validate({"name": "x", "ipc": 1, "arms": {}, "data": {"size": size}})
    given = with_datasets(recipe, (train, train if test is None else test))
    with pytest.raises(InputError) as caught:
        RealData(given, torch.device("cpu"))
    return str(caught.value)


# -- order, names, fingerprints -------------------------------------------------------------------


def test_class_order_keeps_the_datasets_own_order_inside_a_class() -> None:
    train, _ = pair()
    data = opened(train)
    assert data.classes == ("0", "1")
    assert list(data.names) == ["0/0", "0/2", "0/4", "0/6", "1/1", "1/3", "1/5", "1/7"]
    expected = torch.stack([picture(seed) for seed in (0, 2, 4, 6, 1, 3, 5, 7)])
    assert torch.equal(pixels(data, None), expected)


def test_number_names_have_leading_zeros() -> None:
    data = opened(Listed([(picture(seed), seed) for seed in range(11)]))
    assert data.classes == tuple(f"{label:02d}" for label in range(11))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["cat", "dog"], ("cat", "dog")),
        (["dog", "cat"], ("0_dog", "1_cat")),
        (["T-shirt/top", "Bag"], ("0_T-shirt_top", "1_Bag")),
        ([("tench", "Tinca tinca"), ("goldfish",)], ("0_tench", "1_goldfish")),
    ],
)
def test_labels_keep_their_numbers_whatever_the_classes_are_called(
    given: list[Any], expected: tuple[str, ...]
) -> None:
    train, _ = pair()
    train.classes = given  # type: ignore[attr-defined]
    assert opened(train).classes == expected
    assert opened(Subset(train, [5, 2, 0, 1])).names == [
        f"{expected[i]}/{n}" for i, n in ((0, 1), (0, 2), (1, 0), (1, 3))
    ]


def test_the_fingerprint_is_of_labels_and_a_sample_or_of_all_pixels() -> None:
    items = [(picture(seed), seed % 2) for seed in range(200)]
    data = opened(Listed(items))
    assert data.fingerprint_of == "sample"
    relabelled = [*items[:-2], (items[-2][0], 1), (items[-1][0], 0)]
    assert opened(Listed(relabelled)).fingerprint != data.fingerprint
    changed = list(items)
    changed[1] = (255 - items[1][0], 1)  # lies between two images of the sample
    assert opened(Listed(changed)).fingerprint == data.fingerprint
    whole, other = (opened(Listed(each), fingerprint="contents") for each in (items, changed))
    assert whole.fingerprint_of == "contents"
    assert whole.fingerprint != other.fingerprint
    assert opened(Listed(items), split="test").fingerprint != data.fingerprint


def test_targets_spare_the_pass_over_the_images() -> None:
    items = [(picture(seed), seed % 2) for seed in range(1000)]
    known = Listed(items, targets=torch.tensor([label for _, label in items]))
    assert len(opened(known)) == 1000
    assert known.asked == 2 * 64
    assert len(opened(Subset(known, range(500)))) == 500
    assert known.asked == 4 * 64
    transformed = Listed(items, targets=[0] * 1000, target_transform=lambda label: label)
    assert opened(transformed).counts == (500, 500)
    assert transformed.asked == 2 * 64 + 1000


# -- images and labels ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "image",
    [
        picture(1),
        picture(1) / 255,
        (picture(1) / 255).double(),
        picture(1).permute(1, 2, 0).numpy(),
        (picture(1).permute(1, 2, 0).numpy() / 255).astype(np.float32),
        Image.fromarray(picture(1).permute(1, 2, 0).numpy()),
    ],
    ids=["uint8", "float", "double", "array", "float array", "PIL"],
)
def test_every_kind_of_image_gives_the_same_pixels(image: object) -> None:
    assert torch.equal(to_pixels(image), picture(1))


def test_grey_is_repeated_and_color_has_its_luminance() -> None:
    grey = Listed([(picture(seed, 1)[0].numpy(), seed % 2) for seed in range(4)])
    assert torch.equal(pixels(opened(grey), None, 3), pixels(opened(grey), None, 1).expand(-1, 3, -1, -1))
    color = Image.fromarray(picture(0).permute(1, 2, 0).numpy())
    found = pixels(opened(Listed([(color, 0), (color, 1)])), None, 1)
    assert torch.equal(found[0, 0], torch.from_numpy(np.array(color.convert("L"))))


@pytest.mark.parametrize("label", [3, np.int64(3), torch.tensor(3), np.array(3), np.uint8(3)])
def test_every_kind_of_label(label: object) -> None:
    assert to_label(label) == 3


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (picture(0, 4), r"has the shape \[4, 8, 8\]; expected .* 1 channel \(grey\) or 3 \(RGB\)$"),
        (picture(0, 2).permute(1, 2, 0).numpy(), r"has the shape \[8, 8, 2\]"),
        (picture(0).permute(1, 2, 0), r"expected \[channels, height, width\].*permute the axes"),
        (picture(0).numpy(), r"expected \[height, width, channels\].*permute the axes"),
        (picture(0)[0, 0], "of a grey image"),
        (picture(0, 3, 0), r"has the shape \[3, 0, 0\]"),
        ((picture(0) / 255 - 0.5) / 0.2, r"has values from -2.5 to 2.*teacher.mean"),
        (torch.full((3, 8, 8), torch.nan), "has values from nan"),
        (picture(0).float(), r"has values from \d to 25\d; expected floats in"),
        (picture(0).long(), "is of torch.int64; expected uint8"),
        (picture(0).permute(1, 2, 0).numpy().astype(bool), "is of bool; expected uint8"),
        (Image.new("RGBA", (8, 8)), "mode 'RGBA'.*convert"),
        ("cat.jpg", "is of type str; expected a PIL image"),
    ],
)
def test_what_is_no_image(image: object, expected: str) -> None:
    with pytest.raises(BadImage, match=expected):
        to_pixels(image)


# -- what is wrong with a dataset -------------------------------------------------------------------


class Endless(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        yield picture(0), 0


class Shaky(Listed):
    """Draws a new image at each reading."""

    def __getitem__(self, index: int) -> Any:
        return torch.randint(0, 256, (3, 8, 8), dtype=torch.uint8), index % 2


class Broken(Listed):
    def __getitem__(self, index: int) -> Any:
        raise KeyError("image")


GOOD = [(picture(seed), seed % 2) for seed in range(4)]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (Listed([]), "object:Listed (train) is empty"),
        (7, "is of type int, without __getitem__"),
        (Endless(), "is of type Endless, without __len__"),
        (Listed([picture(0), picture(1)]), "gives Tensor for image 0; expected a pair (image, label)"),
        (Listed([{"image": picture(0), "label": 0}]), "gives dict for image 0"),
        (TensorDataset(picture(0)[None]), "gives 1 values for image 0"),
        (Listed([(picture(0), "cat")]), "has the label 'cat' of type str; expected a whole number"),
        (Listed([(picture(0), 1.0)]), "has the label 1.0 of type float"),
        (Listed([(picture(0), torch.tensor([1]))]), "of type Tensor; expected a whole number"),
        (Listed([(picture(0), True)]), "of type bool"),
        (Listed([*GOOD, (picture(0), -1)]), "image 4 has the label -1"),
        (
            Listed([*GOOD, (picture(0), 4)]),
            "no image with the label 2: its images have 3 labels; expected images of each of 0 to 4",
        ),
        (Listed(GOOD, classes=["a", "b", "c"]), "no image with the label 2 ('c')"),
        (Listed([*GOOD, (picture(0), 2)], classes=["a", "b"]), "the label 2, but names 2 classes"),
        (Listed([(picture(0), 0)]), "has one class; expected at least 2"),
        (Listed(GOOD, targets=[0, 1, 0, 0]), "says 0 in its targets and gives the label 1 for image 3"),
        (Shaky(GOOD), "gives another image whenever it is asked for image 0"),
        (Broken(GOOD), "image 0 cannot be read (KeyError: 'image')"),
    ],
)
def test_one_error_before_any_work(data: object, expected: str) -> None:
    assert expected in message(data)


class Failing(Listed):
    """Raises what it is given, where it is told to: in ``length``, ``item``, ``targets`` or ``classes``."""

    def __init__(self, where: str, error: BaseException) -> None:
        super().__init__(GOOD)
        self.where, self.error = where, error

    def fail(self, where: str) -> None:
        if self.where == where:
            raise self.error

    def __len__(self) -> int:
        self.fail("length")
        return super().__len__()

    def __getitem__(self, index: int) -> Any:
        self.fail("item")
        return super().__getitem__(index)

    @property
    def targets(self) -> list[int]:
        self.fail("targets")
        return [label for _, label in self.items]

    @property
    def classes(self) -> list[str]:
        self.fail("classes")
        return ["cat", "dog"]


@pytest.mark.parametrize("error", [OSError("no disk\nat all"), SystemExit("no disk")], ids=["error", "exit"])
@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("length", "of type Failing, whose __len__ gives no whole number from 0 on"),
        ("item", "image 0 cannot be read"),
        ("targets", "its targets cannot be read"),
        ("classes", "its classes cannot be read"),
    ],
)
def test_whatever_a_dataset_raises_is_told_in_one_line(
    where: str, expected: str, error: BaseException
) -> None:
    told = message(Failing(where, error))
    assert told.startswith("object:Failing (train)")
    assert told.endswith(f"{expected} ({type(error).__name__}: no disk)")


@pytest.mark.parametrize("length", [-1, 4.0, 2**80])
def test_a_length_is_a_whole_number(length: Any) -> None:
    strange = type("Strange", (Listed,), {"__len__": lambda self: length})
    told = message(strange(GOOD))
    assert "of type Strange, whose __len__ gives no whole number from 0 on" in told
    assert "\n" not in told


@pytest.mark.parametrize("highest", [10**9, 2**70])
def test_gaps_between_labels_are_found_without_counting_to_the_highest(highest: int) -> None:
    expected = (
        f"no image with the label 2: its images have 3 labels; expected images of each of 0 to {highest}"
    )
    assert expected in message(Listed([*GOOD, (picture(0), highest)]))


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (picture(0).to_sparse(), "image 0 is a tensor of the layout torch.sparse_coo; expected a dense"),
        (picture(0).to("meta"), "image 0 is a tensor on the meta device; expected a dense"),
        (torch.rand(3, 8, 8).to(torch.float8_e5m2), "image 0 cannot be read (NotImplementedError"),
    ],
)
def test_tensors_that_hold_no_pixels(image: Tensor, expected: str) -> None:
    assert expected in message(Listed([(image, 0), (image, 1)]))


def test_a_label_of_many_lines_is_told_in_one() -> None:
    assert "\n" not in message(Listed([(picture(0), torch.zeros(2, 2))]))


@pytest.mark.parametrize("number", [7, [7]])
def test_what_is_no_dataset_is_told_what_was_expected(number: Any) -> None:
    assert "; expected a" in message(number)
    assert "(image, label)" in message(number)


def test_train_and_test_images_of_other_sizes_need_a_size() -> None:
    """Where each split has one size, too, and whatever stores them."""
    larger = Listed([(picture(seed, side=9), seed % 2) for seed in range(4)])
    assert (
        "object:Listed: images differ in size: '0/0' of train is 8 x 8 pixels, '0/0' of test is 9 x 9; set "
        "data.size"
    ) in message(Listed(GOOD), larger)


def test_train_and_test_files_of_other_sizes_need_a_size(tmp_path: Path) -> None:
    for split, side in (("train", 8), ("test", 9)):
        for name in ("cat", "dog"):
            (tmp_path / split / name).mkdir(parents=True)
            Image.new("RGB", (side, side)).save(tmp_path / split / name / "1.png")
    data: dict[str, object] = {"root": str(tmp_path)}
    recipe = {"name": "x", "ipc": 1, "arms": {}, "data": data}
    expected = "'cat/1.png' of train is 8 x 8 pixels, 'cat/1.png' of test is 9 x 9; set data.size"
    with pytest.raises(InputError, match=expected):
        RealData(Recipe.model_validate(recipe), torch.device("cpu"))
    data["size"] = 8
    RealData(Recipe.model_validate(recipe), torch.device("cpu"))


def test_images_of_different_size_need_a_size() -> None:
    train = Listed([*GOOD, (picture(0, 3, 9), 1)])
    assert "'0/0' of train is 8 x 8 pixels, '1/4' is 9 x 9; set data.size" in message(train)
    recipe = Recipe.model_validate({"name": "x", "ipc": 1, "arms": {}, "data": {"size": 8}})
    data = RealData(with_datasets(recipe, (train, Listed(GOOD))), torch.device("cpu"))
    assert data.images(data.train)[0].shape == (5, 3, 8, 8)


def test_both_splits_need_the_same_classes() -> None:
    three = Listed([*GOOD, (picture(0), 2)])
    assert "have 3 classes and the test images 2; only one of them has '2'" in message(three, Listed(GOOD))
    named = Listed(GOOD, classes=["cat", "dog"])
    assert "'0', '1', 'cat', 'dog'" in message(Listed(GOOD), named)


@pytest.mark.parametrize("data", [Listed(GOOD), (Listed(GOOD),), "digits"])
def test_data_is_a_pair(data: Any) -> None:
    with pytest.raises(InputError, match=r"data=\(train, test\)"):
        give_datasets(data)


# -- functions and registered sources -----------------------------------------------------------------


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A module ``owndata`` in the current directory."""
    (tmp_path / "owndata.py").write_text(
        "import torch\n"
        "def make(split):\n"
        "    base = 0 if split == 'train' else 100\n"
        "    return [(torch.full((3, 8, 8), base + i, dtype=torch.uint8), i % 2) for i in range(8)]\n"
        "def fails(split):\n"
        "    raise OSError('no disk\\nat all')\n"
        "def leaves(split):\n"
        "    raise SystemExit(3)\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield "owndata"
    sys.modules.pop("owndata", None)


def test_a_function_is_called_with_the_split(module: str) -> None:
    train, test = (open_dataset(f"{module}:make", split) for split in ("train", "test"))
    assert pixels(train, None)[:, 0, 0, 0].tolist() == [0, 2, 4, 6, 1, 3, 5, 7]
    assert pixels(test, None)[:4, 0, 0, 0].tolist() == [100, 102, 104, 106]
    assert check(f"{module}:make") == []


@pytest.mark.parametrize(
    ("root", "expected"),
    [
        ("owndata:mak", r"owndata \(.*owndata\.py\) has no function 'mak' \(did you mean 'make'\?\)"),
        ("owndatas:make", "owndatas:make cannot be imported .*No module named 'owndatas'"),
        ("owndata:fails", r"owndata:fails fails when it is called with 'train' \(OSError: no disk\)$"),
        ("owndata:leaves", r"owndata:leaves fails when it is called with 'train' \(SystemExit: 3\)$"),
    ],
)
@pytest.mark.usefixtures("module")
def test_a_function_that_is_not_there_or_fails(root: str, expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        open_dataset(root, "train")


@pytest.fixture
def registered() -> Iterator[Callable[[str, Any], None]]:
    """``fastdd.register_source``; what it registers is forgotten after the test."""
    before = dict(SOURCES._things) if len(SOURCES) else {}
    yield fastdd.register_source
    SOURCES._things = before


def test_a_registered_function_gets_what_stands_behind_its_name(
    registered: Callable[[str, Any], None],
) -> None:
    asked = []

    def source(rest: str, split: str) -> Listed:
        asked.append((rest, split))
        return Listed(GOOD)

    registered("lmdb", source)
    assert len(open_dataset("lmdb:/data/x.lmdb", "test")) == 4
    assert asked == [("/data/x.lmdb", "test")]
    with pytest.raises(InputError, match="already"):
        registered("lmdb", source)
    with pytest.raises(InputError, match="already"):
        registered("object", source)
    with pytest.raises(InputError, match=r"expected a function \(rest, split\)"):
        registered("list", Listed)
    with pytest.raises(InputError, match="did you mean 'lmdb:/data'"):
        open_dataset("lmbd:/data", "train")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (lambda rest, split: Listed([]), r"data.root=own:x \(train\) is empty"),
        (lambda rest, split: [][0], r"data.root=own:x: the data source 'own' fails .*'train' \(IndexErr"),
    ],
)
def test_messages_name_the_source_and_the_root(
    registered: Callable[[str, Any], None], given: object, expected: str
) -> None:
    registered("own", given)
    with pytest.raises(InputError, match=expected):
        open_dataset("own:x", "train")


# -- runs -------------------------------------------------------------------------------------------


def test_a_run_on_objects_and_what_needs_them_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tiny.yaml").write_text(TINY)
    data, out = pair(1), tmp_path / "out"
    fastdd.run(tmp_path / "tiny.yaml", out=out, data=data, until="evaluate")
    assert "root: object:Listed" in (out / "recipe.yaml").read_text()
    before = (out / "metrics.json").read_bytes()
    fastdd.run(tmp_path / "tiny.yaml", out=out, data=data, until="evaluate")
    assert (out / "metrics.json").read_bytes() == before
    other = Listed([(255 - image, label) for image, label in data[0].items]), data[1]
    with pytest.raises(InputError, match="made from another train"):
        fastdd.run(tmp_path / "tiny.yaml", out=out, data=other, until="evaluate")
    monkeypatch.setattr(SOURCES["object"], "given", {})
    for command, option in ((["evaluate", str(out)], "--data"), (["metrics", str(out)], "--real")):
        capsys.readouterr()
        assert main(command) == 2
        assert (
            f"objects that were given from Python (object:Listed); give its real images with {option} ROOT"
            in (capsys.readouterr().err)
        )
    assert main(["run", str(out / "recipe.yaml"), "--out", str(out)]) == 2
    assert "fastdd.run(..., data=(train, test))" in capsys.readouterr().err
    assert main(["status", str(out)]) == 0


def test_a_finished_runs_recipe_calls_no_function(
    tmp_path: Path, module: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tiny.yaml").write_text(TINY)
    out = tmp_path / "out"
    fastdd.run(tmp_path / "tiny.yaml", out, [f"data.root={module}:make"], until="evaluate")
    capsys.readouterr()
    assert main(["metrics", str(out), "--k", "2"]) == 2
    assert "a function, which is called only where you ask for it (owndata:make)" in capsys.readouterr().err
    assert main(["metrics", str(out), "--k", "2", "--real", f"{module}:make"]) == 0

"""fastdd.data: data layouts are found by a registry, and a root is opened by the first that recognizes it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from pictures import picture, png, write

import fastdd.data
from fastdd.data import Layout, SplitImages, check, open_dataset
from fastdd.data.open import source_of
from fastdd.data.sources.base import SOURCES, Split
from fastdd.errors import InputError

PACKAGE = Path(fastdd.data.__file__).parent


@pytest.fixture
def registered() -> Iterator[None]:
    """What a test registers is forgotten after it."""
    before = dict(SOURCES._things) if len(SOURCES) else {}
    yield
    SOURCES._things = before


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """Two classes of one training and one test image each, as an image folder."""
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            write(tmp_path / "pets", f"{split}/{name}/1.png", png(picture(1)))
    return tmp_path / "pets"


class Pets(Layout):
    """Opens the folder below a fixed place, and recognizes files that end in ``.pets``."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def recognizes(self, root: str) -> bool:
        return root.endswith(".pets")

    def open(self, root: str, split: Split) -> SplitImages:
        layout = SOURCES["folder"]
        return layout.open(str(self.place / root.removesuffix(".pets")), split)


def test_layouts_are_asked_in_this_order() -> None:
    names = {id(SOURCES[name]): name for name in SOURCES}
    order = [names[id(layout)] for layout in SOURCES.layouts()]
    assert order == [
        "digits",
        "cifar",
        "npz",
        "parquet",
        "tiny-imagenet",
        "webdataset",
        "tar",
        "folder",
        "hf",
        "object",
        "function",
    ]


@pytest.mark.usefixtures("registered")
def test_a_registered_layout_is_found_by_its_name_and_by_what_it_recognizes(pets: Path) -> None:
    SOURCES.register("pets-of", Pets(pets.parent))
    expected = open_dataset(pets, "train")
    assert open_dataset("pets-of:pets", "train").fingerprint == expected.fingerprint
    assert open_dataset("pets.pets", "train").names == expected.names
    assert check("pets-of:pets") == []


def test_a_layout_can_be_asked_for_by_its_name(pets: Path) -> None:
    assert open_dataset(f"folder:{pets}", "test").classes == ("cat", "dog")
    with pytest.raises(InputError, match="holds no files of CIFAR"):
        open_dataset(f"cifar:{pets}", "test")


def test_paths_and_drives_are_not_taken_for_names(
    pets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    pets.rename(tmp_path / "folder:pets")
    assert source_of("folder:pets") == (SOURCES["folder"], "folder:pets")
    with pytest.raises(InputError, match="drive"):
        SOURCES.register("C", Pets(tmp_path))
    with pytest.raises(InputError, match=r"no data at 'C:\\\\photos'"):
        open_dataset("C:\\photos", "train")


@pytest.mark.usefixtures("registered")
def test_a_name_is_given_once_and_to_a_source(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is a data source 'tar' already"):
        SOURCES.register("tar", Pets(tmp_path))
    with pytest.raises(InputError, match="the data source 'pets' is 'a path'; expected a function"):
        SOURCES.register("pets", "a path")  # type: ignore[arg-type]


# -- the imports of fastdd.data ---------------------------------------------------------------------


def imports_of(module: str) -> set[str]:
    """The modules of fastdd that a module of fastdd.data imports, in functions too."""
    path = PACKAGE.parent.joinpath(*module.split(".")[1:])
    is_package = path.is_dir()
    tree = ast.parse((path / "__init__.py" if is_package else path.with_suffix(".py")).read_text())
    found = set()
    for node in ast.walk(tree):
        if not isinstance(node, ast.ImportFrom) or not node.level:
            continue
        base = module.split(".")[: len(module.split(".")) - node.level + is_package]
        target = ".".join([*base, *(node.module or "").split(".")]).rstrip(".")
        for name in node.names:
            inner = PACKAGE.parent.joinpath(*target.split(".")[1:], name.name)
            found.add(f"{target}.{name.name}" if inner.with_suffix(".py").is_file() else target)
    return found


def modules() -> list[str]:
    """All modules of fastdd.data."""
    paths = (path.relative_to(PACKAGE.parent.parent).with_suffix("") for path in PACKAGE.rglob("*.py"))
    return [".".join(path.parts).removesuffix(".__init__") for path in paths]


def test_imports_of_data_only_point_down() -> None:
    below = ("config", "runtime", "errors", "version", "run_folder.reading")
    allowed = ("fastdd.data", *(f"fastdd.{name}" for name in below))
    graph = {module: imports_of(module) for module in modules()}
    assert {target for found in graph.values() for target in found if not target.startswith(allowed)} == set()
    left = {module: {target for target in found if target in graph} for module, found in graph.items()}
    while bottom := {module for module, found in left.items() if not found & left.keys()}:
        left = {module: found for module, found in left.items() if module not in bottom}
    assert left == {}, "these modules import one another"

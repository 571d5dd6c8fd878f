"""Methods of a user's own: registered, found by an entry point, and refused where they could not work."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import fastdd
from fastdd.errors import InputError
from fastdd.methods import METHODS, Declaration
from fastdd.recipes.presets import recipe_names
from fastdd.recipes.resolve import resolve

OWN = {"title": "Ours", "init": "real", "terms": {"bn": {"weight": 0.5}}, "steps": 7}


@pytest.fixture(autouse=True)
def _registry_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers is forgotten when it ends."""
    len(METHODS)  # reads the modules before the copy is made
    monkeypatch.setattr(METHODS, "_things", dict(METHODS._things))


def test_a_method_of_ones_own_has_recipes_on_all_data_sets() -> None:
    fastdd.register_method("my-own", OWN)
    resolved = resolve("cifar10-my-own", ["ipc=1"])
    arm = resolved.recipe.arms["my-own"]
    assert (arm.title, arm.init, arm.steps, arm.terms.bn.weight) == ("Ours", "real", 7, 0.5)
    assert resolved.recipe.description.startswith("Ours on CIFAR-10")
    leaf = resolved.leaves["arms.my-own.terms.bn.weight"]
    assert (leaf.value, leaf.origin, leaf.source) == (0.5, "method my-own", "ours")
    assert {"tiny-my-own", "imagenet1k-my-own"} <= set(recipe_names())
    assert resolve("cifar10-my-own", add=["dire"]).recipe.arms["my-own+dire"].title == "Ours + DiRe"


def test_a_declaration_says_what_differs_by_data_set_and_images_a_class() -> None:
    fastdd.register_method(
        "own",
        Declaration(
            OWN,
            on={"tiny": {"steps": 9}},
            at=lambda dataset, ipc: {"lr": 0.5} if ipc == 1 else {},
            committee={"tiny": {"resnet32": {"network": "resnet32"}}},
        ),
    )
    one, ten = (fastdd.resolve("tiny-own", [f"ipc={ipc}"]) for ipc in (1, 10))
    assert (one.arms["own"].steps, one.arms["own"].lr, ten.arms["own"].lr) == (9, 0.5, 0.25)
    assert one.committee["resnet32"].network == "resnet32"
    assert fastdd.resolve("cifar10-own").arms["own"].steps == 7


@pytest.mark.parametrize(
    ("name", "declaration", "expected"),
    [
        ("deda", OWN, "there is a method 'deda' already"),
        ("a b", OWN, "'a b' cannot name a method"),
        ("a.b", OWN, "'a.b' cannot name a method, whose images lie in a folder of that name"),
        ("own", 3, "method 'own' must be a mapping of method keys"),
    ],
)
def test_what_is_no_method_is_refused_when_it_is_registered(
    name: str, declaration: Declaration, expected: str
) -> None:
    with pytest.raises(InputError, match=expected):
        fastdd.register_method(name, declaration)


def test_a_wrong_key_of_a_declaration_is_named_with_the_nearest_one() -> None:
    fastdd.register_method("own", {**OWN, "stpes": 3})
    with pytest.raises(InputError, match=r"unknown key arms\.own\.stpes \(did you mean 'steps'\?\)"):
        fastdd.resolve("cifar10-own")


def test_methods_of_other_distributions_are_found_by_their_entry_points(tmp_path: Path) -> None:
    (tmp_path / "theirs.py").write_text("METHOD = {'title': 'Theirs', 'steps': 3}\n")
    info = tmp_path / "theirs-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[fastdd.methods]\ntheirs = theirs:METHOD\n")
    program = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from fastdd.methods import METHODS\n"
        "print(METHODS['theirs'].title('theirs'), sorted(METHODS)[:2])\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "Theirs ['cafe', 'cda']\n"

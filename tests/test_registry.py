"""Things found by name: from modules, from entry points, and registered at run time."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from fastdd.errors import InputError
from fastdd.models.registry import NETWORKS, Networks
from fastdd.runtime import registry as registry_module
from fastdd.runtime.registry import Registry

MODULE = "from {package} import THINGS\nTHINGS.register('{name}', '{name} of a module')\n"
BASE = "from fastdd.runtime.registry import Registry\nTHINGS = Registry('thing', __name__, 'fastdd.things')\n"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Path:
    """A package whose modules ``b`` and ``a`` register a thing each; its name is unlike any other test's."""
    folder = tmp_path / f"things_{abs(hash(request.node.name))}"
    folder.mkdir()
    (folder / "__init__.py").write_text(BASE)
    for name in ("b", "a"):
        (folder / f"{name}.py").write_text(MODULE.format(package=folder.name, name=name))
    monkeypatch.syspath_prepend(tmp_path)
    return folder


def things(package: Path) -> Registry[str]:
    __import__(package.name)
    found: Registry[str] = sys.modules[package.name].THINGS
    return found


def declare(monkeypatch: pytest.MonkeyPatch, *points: tuple[str, str]) -> None:
    """Entry points of the group ``fastdd.things``: names and what they point to."""
    group = [EntryPoint(name, value, "fastdd.things") for name, value in points]
    monkeypatch.setattr(registry_module, "entry_points", lambda group: found[group])
    found = {"fastdd.things": group}


def test_modules_come_first_by_name_and_entry_points_by_name_at_the_first_lookup(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    declare(monkeypatch, ("z", "string:digits"), ("c", "string:hexdigits"))
    registry = things(package)
    registry.register("mine", "registered")
    assert list(registry) == ["a", "b", "mine", "c", "z"]
    assert len(registry) == 5
    assert "b" in registry
    assert "d" not in registry
    assert registry["a"] == "a of a module"
    assert registry["z"] == "0123456789"


def test_nothing_is_imported_before_the_registry_is_asked(package: Path) -> None:
    registry = things(package)
    assert f"{package.name}.a" not in sys.modules
    assert "a" in registry
    assert f"{package.name}.a" in sys.modules


def test_a_name_is_given_once(package: Path) -> None:
    registry = things(package)
    for name in ("a", "mine"):
        if name == "mine":
            registry.register(name, "first")
        with pytest.raises(InputError, match=f"there is a thing '{name}' already; register yours under"):
            registry.register(name, "second")
    assert registry["mine"] == "first"


@pytest.mark.parametrize("name", ["", " ", "-a", "a b", "a/b", "a\n", 3])
def test_bad_names_are_refused(package: Path, name: str) -> None:
    registry = things(package)
    with pytest.raises(InputError, match="cannot name a thing; use letters, digits"):
        registry.register(name, "x")
    assert list(registry) == ["a", "b"]


def test_an_unknown_name_is_told_the_nearest(package: Path) -> None:
    registry = things(package)
    registry.register("gaussian", "x")
    with pytest.raises(
        InputError, match=r"unknown thing 'gausian' .did you mean 'gaussian'.*known: a, b, gauss"
    ):
        registry["gausian"]


def test_an_entry_point_that_cannot_be_imported_fails_every_time(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    declare(monkeypatch, ("far", "no_such_package:thing"))
    registry = things(package)
    for _ in range(2):
        with pytest.raises(
            InputError, match=r"the entry point 'far' of .* \(fastdd.things\) cannot be loaded"
        ):
            registry["a"]
    with pytest.raises(InputError, match="the entry point 'far'"):
        list(registry)


def test_an_entry_point_whose_name_is_taken_fails_every_time(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    declare(monkeypatch, ("a", "string:digits"))
    registry = things(package)
    for _ in range(2):
        with pytest.raises(
            InputError, match=r"entry point 'a' of string:digits .*there is a thing 'a' already"
        ):
            registry["b"]


@pytest.mark.parametrize(
    ("source", "said"),
    [("import sys; sys.exit(2)", "SystemExit: 2"), ("raise KeyError('a\\nb')", "KeyError")],
)
def test_an_entry_point_that_exits_or_fails_is_told_in_one_line(
    package: Path, monkeypatch: pytest.MonkeyPatch, source: str, said: str
) -> None:
    (package.parent / f"far_{package.name}.py").write_text(source)
    declare(monkeypatch, ("far", f"far_{package.name}:thing"))
    with pytest.raises(InputError, match=rf"'far' of far_.* cannot be loaded: {said}.*; mend or") as refusal:
        list(things(package))
    assert "\n" not in str(refusal.value)


def test_an_entry_point_of_a_wrong_type_names_its_distribution(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(NETWORKS)  # it has read its entry points before they are replaced
    monkeypatch.setattr(
        registry_module, "entry_points", lambda group: [EntryPoint("far", "string:digits", group)]
    )
    with pytest.raises(
        InputError, match=r"'far' of string:digits \(fastdd\.networks\) .* is a str, expected"
    ):
        list(Networks("network", "fastdd.models", "fastdd.networks"))


def test_a_module_that_fails_fails_every_time(package: Path) -> None:
    (package / "c.py").write_text("raise RuntimeError('broken module')\n")
    registry = things(package)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="broken module"):
            registry["a"]

"""Terms of the user's own that do not work: one error that names the term, before an arm is recovered."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from run_folders import make_run_folder
from tiny_recovery import CLASSES, IPC, Lab, make_lab, method
from torch import Tensor

import fastdd
from fastdd.config import Config, Terms
from fastdd.config.terms import TERMS
from fastdd.errors import InputError
from fastdd.recover import Term, Unit
from fastdd.run_folder import RunFolder, read_recipe
from fastdd.teachers import Features


class Weight(Config):
    weight: float = 1.0


class Own(Term[Weight, Any]):
    """A term that returns what a test wants."""

    configuration = Weight
    labels: ClassVar = {"own": "a term of one's own"}
    wanted_targets: ClassVar[object] = None
    returned: ClassVar[object] = None

    def targets(self, unit: Unit) -> Any:
        return self.wanted_targets

    def __call__(self, features: Features, images: Tensor, targets: Any) -> Any:
        return {"own": images.square().sum()} if self.returned is None else self.returned


class Raising(Own):
    def __call__(self, features: Features, images: Tensor, targets: Any) -> Any:
        raise KeyError("block7")


class RaisingTargets(Own):
    def targets(self, unit: Unit) -> Any:
        return 1 / 0


class Nothing(Own):
    def __call__(self, features: Features, images: Tensor, targets: Any) -> Any:
        return None


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return make_lab(tmp_path_factory.mktemp("bank"))


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers is gone after it."""
    TERMS.in_order()
    monkeypatch.setattr(TERMS, "_things", dict(TERMS._things))


def prepare(lab: Lab, term: type[Own], *, ce: bool = True) -> None:
    fastdd.register_term("own", term)
    terms = Terms(own=Weight()) if ce else Terms(own=Weight(), ce=None)
    chosen = method("sre2l", terms=terms, steps=2)
    lab.recovery(chosen).try_terms(CLASSES, IPC)


@pytest.mark.parametrize(
    ("returned", "expected"),
    [
        ({"ce": torch.zeros(())}, r"it returns a value 'ce', expected those of its `labels`: 'own'"),
        ({"other": torch.zeros(())}, r"it returns a value 'other'"),
        ({}, r"it returns an empty dict"),
        (torch.zeros(()), r"it returns a Tensor, expected a dict of scalar tensors with the keys 'own'"),
        ({"own": 1.0}, r"its value 'own' is a float, expected a scalar tensor"),
        ({"own": torch.zeros(3)}, r"its value 'own' is a tensor \[3\]"),
        ({"own": torch.zeros((), dtype=torch.int64)}, r"its value 'own' is a tensor \[\] of torch.int64"),
    ],
)
def test_a_term_that_returns_anything_but_its_values_is_refused(
    lab: Lab, returned: object, expected: str
) -> None:
    with pytest.raises(InputError, match=f"term 'own': {expected}"):
        prepare(lab, type("Returning", (Own,), {"returned": returned}))


@pytest.mark.parametrize(
    ("term", "expected"),
    [
        (Raising, r"its code raises KeyError: 'block7'"),
        (RaisingTargets, r"its code raises ZeroDivisionError: division by zero"),
        (Nothing, r"it returns a NoneType, expected a dict"),
        (type("Words", (Own,), {"wanted_targets": (None, ["word"])}), r"its targets contain 'word' \(str\)"),
    ],
)
def test_a_term_whose_code_fails_is_refused(lab: Lab, term: type[Own], expected: str) -> None:
    with pytest.raises(InputError, match=f"term 'own': {expected}"):
        prepare(lab, term)


def test_a_term_without_a_gradient_is_refused_where_it_is_alone(lab: Lab) -> None:
    constant = type("Constant", (Own,), {"returned": {"own": torch.zeros(())}})
    with pytest.raises(InputError, match=r"term 'own': its values do not depend on the images"):
        prepare(lab, constant, ce=False)


def test_a_term_that_works_is_tried_and_kept(lab: Lab) -> None:
    prepare(lab, type("Nested", (Own,), {"wanted_targets": [None, (torch.zeros(2), {"a": torch.ones(1)})]}))


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({"labels": None}, r"labels must be a mapping of str to str, such as \{'own': .*\}, got None"),
        ({"labels": ["own"]}, r"labels must be a mapping of str to str"),
        ({"labels": {"own": 3}}, r"labels must be a mapping of str to str"),
        ({"labels": {}}, r"labels is empty"),
        ({"labels": {"ce": "mine"}}, r"its value 'ce' is also one of the term 'ce'"),
        ({"excludes": ["bn"]}, r"excludes must be a mapping of str to str"),
    ],
)
def test_labels_that_figures_could_not_use_are_refused_when_a_term_is_registered(
    attributes: Mapping[str, object], expected: str
) -> None:
    with pytest.raises(InputError, match=f"term 'own': .*{expected}"):
        fastdd.register_term("own", type("Labelled", (Own,), dict(attributes)))
    assert "own" not in TERMS


def test_a_term_that_excludes_another_may_share_its_values() -> None:
    shared = {"labels": {"bn": "BatchNorm"}, "excludes": {"bn": "twice", "conv": "twice"}}
    fastdd.register_term("own", type("Shared", (Own,), shared))


def test_a_run_folder_with_a_term_that_is_not_registered_says_so(tmp_path: Path) -> None:
    recipe = {"name": "toy", "arms": {"smooth": {"terms": {"tv": {"weight": 0.1}, "bn": None}}}}
    run: RunFolder = make_run_folder(tmp_path, recipe, ["ant"])
    with pytest.raises(InputError, match=r"arm 'smooth' has a term 'tv', which is not registered") as caught:
        read_recipe(run)
    assert "nothing is damaged" in str(caught.value)
    assert "fastdd.register_term('tv', ...)" in str(caught.value)
    fastdd.register_term("tv", Own)
    assert read_recipe(run).arms["smooth"].terms["tv"] == Weight(weight=0.1)

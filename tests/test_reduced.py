"""Arms that do less than their methods declare: found by comparison with the declaration, never by hand."""

from __future__ import annotations

from fastdd.recipes.grid import expand, parse_grid
from fastdd.recipes.resolve import resolve


def test_fewer_steps_and_fewer_teachers_than_declared_are_found() -> None:
    found = resolve("cifar10-methods").reduced
    assert found["sre2l"] == "400 of the method's 1,000 steps"
    assert found["delt+dire"] == "400 of the method's 4,000 steps"
    assert found["gvbsm"] == "400 of the method's 4,000 steps, 2 of the method's 5 teachers"
    assert "rded" not in found  # it optimizes nothing, as declared


def test_a_method_as_declared_is_not_reduced() -> None:
    for name in ("cifar10-gvbsm", "cifar10-deda", "cifar100-dire", "imagenet1k-infer"):
        assert resolve(name).reduced == {}
    for name in ("dire-table2", "dire-table8", "deda-table2", "cifar10-papers"):
        assert resolve(name).reduced == {}, name


def test_an_override_reduces_an_arm_and_those_that_an_addition_makes_of_it() -> None:
    found = resolve("cifar10-sre2l", ["method.steps=10"], add=["dire"]).reduced
    assert found == dict.fromkeys(("sre2l-as-dire", "sre2l+dire"), "10 of the method's 1,000 steps")
    assert resolve("cifar10-sre2l", ["method.steps=5000"]).reduced == {}
    fewer = resolve("dire-table2", ["arms.gvbsm.committee=[convnet3]"], arms=["gvbsm"]).reduced
    assert fewer == {"gvbsm": "2 of the method's 5 teachers"}


def test_images_of_no_known_data_set_have_no_declared_steps() -> None:
    assert resolve("digits").reduced == {}


def test_the_points_of_a_sweep_are_reduced_one_by_one() -> None:
    grid = expand("cifar10-sre2l", [parse_grid("method.steps=10,1000")])
    assert [run.reduced for run in grid.runs] == [{"sre2l-steps-10": "10 of the method's 1,000 steps"}]

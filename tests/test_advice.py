"""What a refusal advises works: a size of images, or the name of a network, that it names."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import fastdd
from fastdd.cost.subject import Subject
from fastdd.errors import InputError
from fastdd.runs.experiment import check

RECIPE = """\
ipc: 1
data: {root: digits}
teacher: {network: resnet8, epochs: 1, pad: 1}
arms: {chosen: {init: real, steps: 0}}
student: {network: resnet8, steps: 2, batch: 10, pad: 1, seeds: 1}
"""
MATCHING = RECIPE.replace("arms: {", "arms: {dm: {method: dm}, ")
MATCHING_EXPERTS = RECIPE.replace("arms: {", "arms: {mtt: {method: mtt}, ")
KEYS = {
    "teacher.network": RECIPE,
    "student.network": RECIPE,
    "arms.dm.match.networks.network": MATCHING,
    "arms.mtt.match.networks.network": MATCHING_EXPERTS,
}
SIDES = dict.fromkeys(("convnet", "convnet3", "convnet2_bn"), (8, 16, 20, 40))
SIDES |= {"vit_small32": (16, 20), "alexnet": (16, 40)}
"""network -> sides of images; the last two take none of theirs: for one of them there is a ConvNet"""


def refusal(recipe: Path, out: Path, overrides: list[str]) -> str:
    """Why a run is refused; empty: it is not."""
    try:
        check(fastdd.resolve(str(recipe), overrides), out)
    except InputError as error:
        return str(error)
    return ""


def advised(text: str) -> list[str]:
    """The overrides that a refusal of ``KEY: ...`` advises."""
    size, network = re.search(r"set data\.size to (\d+)", text), re.search(r"such as (\S+)$", text)
    found = [f"data.size={size[1]}"] if size else []
    return found + ([f"{text.partition(':')[0]}={network[1]}"] if network else [])


@pytest.mark.slow
@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize(("name", "side"), [(name, side) for name in SIDES for side in SIDES[name]])
def test_advice_on_a_network_that_does_not_take_the_images_works(
    tmp_path: Path, key: str, side: int, name: str
) -> None:
    recipe = tmp_path / "own.yaml"
    recipe.write_text(KEYS[key])
    given = [f"data.size={side}", f"{key}={name}"]
    if not (text := refusal(recipe, tmp_path / "out", given)):
        assert name != "alexnet"
        return
    if "features" in text or "keeps statistics" in text or "BatchNorm" in text or "layers" in text:
        assert "networks" in key  # what is matched, and not the size
        return
    assert text.startswith(f"{key}: ")
    found = advised(text)
    assert found, text
    for override in found:
        assert not refusal(recipe, tmp_path / "out", [*given, override]), (text, override)


@pytest.mark.parametrize("side", [8, 20, 32])
def test_a_network_of_more_than_weights_is_refused_with_one_that_trajectories_take(
    tmp_path: Path, side: int
) -> None:
    """Whether it takes the images or not."""
    key = "arms.mtt.match.networks.network"
    (tmp_path / "own.yaml").write_text(MATCHING_EXPERTS)
    given = [f"data.size={side}", f"{key}=convnet2_bn"]
    text = refusal(tmp_path / "own.yaml", tmp_path / "out", given)
    assert f"{key}: convnet2_bn keeps statistics (" in text
    assert "data.size" not in text
    for override in advised(text):
        assert not refusal(tmp_path / "own.yaml", tmp_path / "out", [*given, override]), (text, override)
    assert (side == 20) == (not advised(text))  # there is no ConvNet for 20 pixels


def test_no_size_is_advised_that_another_network_does_not_take(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(RECIPE)
    given = ["teacher.network=convnet1", "student.network=convnet3"]
    text = refusal(tmp_path / "own.yaml", tmp_path / "out", given)
    assert text.endswith("); choose another network, such as convnet1")
    assert not refusal(tmp_path / "own.yaml", tmp_path / "out", [*given, "student.network=convnet1"])
    text = refusal(tmp_path / "own.yaml", tmp_path / "out", ["student.network=convnet3", "data.resize=16"])
    assert "data.size" not in text


def test_the_papers_name_of_a_network_is_understood_for_teachers(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(RECIPE + "committee: {second: {network: convnet}}\n")
    overrides = ["teacher.network=convnet", "student.network=convnet"]
    for side, name in ((8, "convnet1"), (32, "convnet3")):
        resolved = fastdd.resolve(str(tmp_path / "own.yaml"), [*overrides, f"data.size={side}"])
        recipe = check(resolved, tmp_path / "out").recipe
        networks = {recipe.teacher.network, recipe.committee["second"].network, recipe.student.network}
        assert networks == {name}


def test_an_estimate_means_what_a_run_means_and_advises_no_network_that_it_would_refuse(
    tmp_path: Path,
) -> None:
    (tmp_path / "own.yaml").write_text(MATCHING_EXPERTS)
    names = [f"{key}=convnet" for key in KEYS if "dm" not in key]
    resolved = fastdd.resolve(str(tmp_path / "own.yaml"), [*names, "experts.precision=auto"])
    run, estimated = check(resolved, tmp_path / "out").recipe, Subject.of(resolved).recipe
    assert estimated.arms == run.arms
    for section in ("teacher", "bank", "experts", "recover", "student"):
        assert getattr(estimated, section) == getattr(run, section), section
    given = ["data.size=20", "arms.mtt.match.networks.network=convnet"]
    with pytest.raises(InputError, match=r"there is no ConvNet for images of 20 x 20") as caught:
        Subject.of(fastdd.resolve(str(tmp_path / "own.yaml"), given))
    assert not advised(str(caught.value))  # BatchNorm of resnet20 keeps statistics

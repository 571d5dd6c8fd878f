"""What the matching family refuses before any work, and its addition and control."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_recovery import CLASSES, IPC, make_lab, method

import fastdd
from fastdd.config import FeatureMatch, Inner, KernelMatch, Match, Networks
from fastdd.errors import InputError
from fastdd.recover import plan
from fastdd.runs.experiment import check
from fastdd.runs.matching_checks import smaller_classes, whole_passes
from fastdd.runtime import memory

SMALL = """\
data: {root: digits, channels: 1}
teacher: {network: resnet8, mean: [0.305], std: [0.376], epochs: 1, batch: 128, lr: 0.1, pad: 1, flip: 0.0}
method: {steps: 2}
arms: {ARMS}
student: {network: resnet8, steps: 2, batch: 20, pad: 1, flip: 0.0, seeds: 1, evaluations: 1}
"""
DM = "a: {method: dm, match: {networks: {real: 20}}}"
DATADAM = "a: {method: datadam, match: {networks: {network: convnet1}}}"
KIP = "a: {method: kip}"
CAFE = "a: {method: cafe, match: {networks: {real: 20}}}"


def recipe_with(tmp_path: Path, arms: str) -> str:
    path = tmp_path / "own.yaml"
    path.write_text(SMALL.replace("ARMS", arms))
    return str(path)


@pytest.mark.parametrize(
    ("arms", "override", "expected"),
    [
        (
            DM,
            "arms.a.match.networks.network=convnt1",
            ["arms.a.match.networks.network", "convnt1", "convnet1"],
        ),
        (DM, "arms.a.match.networks.network=convnet4", ["arms.a.match.networks.network", "1 x 8 x 8"]),
        (
            CAFE,
            "arms.a.match.features.weights=[1, 2, 3, 4]",
            ["arms.a.match.features.weights has 4", "give 2"],
        ),
        (
            CAFE,
            "arms.a.match.features.weights=[1]",
            ["arms.a.match.features.weights has 1 weight, but convnet1 has 2 matched layers", "give 2"],
        ),
        (
            DATADAM,
            "ipc=2",
            ["arms.a.match.features.layers is relu", "convnet1 has one alone", "layers to all"],
        ),
        (
            KIP,
            "arms.a.match.kernel.target=9",
            ["arms.a.match.kernel.target is 9", "each of the 10 classes", "set it to 10 or more"],
        ),
    ],
)
def test_what_cannot_be_matched_is_named(
    tmp_path: Path, arms: str, override: str, expected: list[str]
) -> None:
    recipe = fastdd.resolve(recipe_with(tmp_path, arms), ["ipc=2", override])
    with pytest.raises(InputError) as caught:
        check(recipe, tmp_path / "out")
    assert all(part in str(caught.value) for part in expected), caught.value


@pytest.mark.parametrize(("side", "network"), [(8, "convnet1"), (16, "convnet2"), (32, "convnet3")])
def test_the_layer_weights_of_cafe_fit_the_network_that_fits_the_images(
    tmp_path: Path, side: int, network: str
) -> None:
    recipe = fastdd.resolve(recipe_with(tmp_path, CAFE), ["ipc=2", f"data.size={side}"])
    match = check(recipe, tmp_path / "out").recipe.arms["a"].match
    assert match is not None
    assert match.features is not None
    assert (match.networks.network, match.features.weights) == (network, "cafe")


def test_a_network_without_relu_modules_has_no_maps_to_match(tmp_path: Path) -> None:
    recipe = fastdd.resolve(recipe_with(tmp_path, "a: {method: datadam}"), ["ipc=2"])
    fastdd.register_network(
        "relu_less",
        lambda num_classes: torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, num_classes)),
    )
    assert recipe.arms["a"].match is not None
    networks = Networks(network="relu_less")
    changed = recipe.arms["a"].match.model_copy(update={"networks": networks})
    arms = {"a": recipe.arms["a"].model_copy(update={"match": changed})}
    with pytest.raises(InputError, match=r"arms\.a\.match\.networks\.network: relu_less has no ReLU module"):
        check(recipe.model_copy(update={"arms": arms}), tmp_path / "out")


def test_a_coupled_method_has_no_units_to_choose_from(tmp_path: Path) -> None:
    recipe = fastdd.resolve(recipe_with(tmp_path, CAFE), ["ipc=2"])
    with pytest.raises(
        InputError, match=r"arms\.a optimizes all its images together, in one unit; leave out"
    ):
        check(recipe, tmp_path / "out", units=range(1))
    check(recipe, tmp_path / "out")
    check(fastdd.resolve(recipe_with(tmp_path, DM), ["ipc=2"]), tmp_path / "out", units=range(1))


def test_a_training_set_that_does_not_fit_says_what_would(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = fastdd.resolve(recipe_with(tmp_path, DM), ["ipc=2", "metrics.full_set=false"])
    monkeypatch.setattr(memory, "memory_budget", lambda: 10_000)
    with pytest.raises(InputError) as caught:
        check(recipe, tmp_path / "out")
    for part in ("bytes are needed to hold the", "that arms.a matches", "only 10,000 may be", "data.size"):
        assert part in str(caught.value), caught.value


def test_dire_without_a_bank_names_the_key(tmp_path: Path) -> None:
    path = recipe_with(tmp_path, DM)
    with pytest.raises(InputError, match=r"bank\.embeddings is 0; set it to all"):
        check(fastdd.resolve(path, ["ipc=2", "bank.embeddings=0"], ["dire"]), tmp_path / "out")


def test_smaller_classes_are_told_once() -> None:
    match = Match(features=FeatureMatch(), networks=Networks(real=20))
    assert smaller_classes(match, (20, 30), ("ant", "bee")) is None
    assert smaller_classes(match, (25, 12, 7), ("ant", "bee", "cow")) == (
        "2 of 3 classes have fewer real images than match.networks.real, 20 ('cow' has 7); each step takes "
        "all of them"
    )


def test_passes_that_ask_for_more_images_than_there_are_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def told(images: int | None, on: str = "real") -> str | None:
        inner = Inner.model_validate({"on": on, "images": images})
        return whole_passes(Match(features=FeatureMatch(), networks=Networks(inner=inner)), 1438)

    assert told(None) is None
    assert told(1438) is None
    assert told(1439) == (
        "match.networks.inner.images is 1439, but the training set has 1438 images; each pass takes all of "
        "them"
    )
    idc = "a: {method: idc, formation: null, match: {networks: {network: convnet1, steps: 2}}}"
    fastdd.run(recipe_with(tmp_path, idc), tmp_path / "out", ["ipc=1"], until="recover")
    assert "recover a: match.networks.inner.images is 2000, but the training" in capsys.readouterr().err


def test_classes_smaller_than_their_part_of_a_kernels_images_are_told() -> None:
    match = Match(kernel=KernelMatch(target=60))
    assert smaller_classes(match, (20, 30, 20), ("ant", "bee", "cow")) is None
    assert smaller_classes(match, (25, 12, 7), ("ant", "bee", "cow")) == (
        "2 of 3 classes have fewer real images than one class's part of match.kernel.target, 20 ('cow' has "
        "7); each step takes all of them"
    )


def test_the_control_pulls_to_the_mean_embedding_of_the_class(tmp_path: Path) -> None:
    lab = make_lab(tmp_path)
    terms = method("sre2l").terms.__class__(ce=None, mean_embedding={"weight": 0.5})
    control = method("dm", terms=terms, match=None)
    for unit in plan(CLASSES, IPC, control.batch, 12):
        images = lab.start(control, unit)
        rows = lab.features(control, unit, images).embedding.view(-1, IPC, 64)
        wanted = sum(
            0.5 * (mine.mean(0) - lab.bank.embeddings(c).mean(0)).square().sum()
            for mine, c in zip(rows, unit.groups, strict=True)
        )
        torch.testing.assert_close(lab.values(control, unit, images)["mean_embedding"], wanted)

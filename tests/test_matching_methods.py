"""The declared methods of the matching family, against the tables of their released code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import fastdd
from fastdd.config import Match, Method
from fastdd.errors import InputError
from fastdd.models.outline import network_for
from fastdd.recipes.resolve import resolve
from fastdd.recover.matching.features import layer_weights
from fastdd.runs.experiment import check

METHODS = ("dm", "dc", "dsa", "datadam", "cafe", "mtt", "tesla", "kip", "idc")
SIX = ("color", "crop", "cutout", "flip", "scale", "rotate")


def arm(name: str, ipc: int = 10) -> Method:
    """The arm of a recipe DATASET-METHOD."""
    (only,) = fastdd.resolve(name, [f"ipc={ipc}"]).arms.values()
    return only


def match(name: str, ipc: int = 10) -> Match:
    """Its section ``match``."""
    found = arm(name, ipc).match
    assert found is not None
    return found


def sgd(name: str, ipc: int = 10) -> tuple[Any, ...]:
    """Optimizer, learning rate, momentum, schedule, steps and initial images."""
    method = arm(name, ipc)
    return method.optimizer, method.lr, method.momentum, method.schedule, method.steps, method.init


def source(name: str, path: str, ipc: int = 10) -> str:
    return resolve(name, [f"ipc={ipc}"]).leaves[f"arms.{name.partition('-')[2]}.{path}"].source


# -- DM and DataDAM ----------------------------------------------------------------------------------


@pytest.mark.parametrize("dataset", ["cifar10", "cifar100", "tiny"])
@pytest.mark.parametrize("ipc", [1, 10, 50])
def test_dm_and_datadam_have_one_table_everywhere(dataset: str, ipc: int) -> None:
    for name, real in (("dm", 256), ("datadam", 64)):
        assert sgd(f"{dataset}-{name}", ipc) == ("sgd", 1.0, 0.5, "constant", 20_000, "real")
        found = match(f"{dataset}-{name}", ipc)
        assert (found.networks.network, found.networks.steps, found.networks.real) == ("convnet", 1, real)
        assert (found.siamese.operations, found.siamese.together, found.coupled) == (SIX, False, False)
        assert arm(f"{dataset}-{name}", ipc).batch.slots == "all"
    dm, datadam = match(f"{dataset}-dm").features, match(f"{dataset}-datadam").features
    assert dm is not None
    assert datadam is not None
    assert (dm.layers, dm.map, dm.weight, dm.output) == ("last", "mean", 1.0, 0.0)
    assert (datadam.layers, datadam.map, datadam.power) == ("relu", "attention", 1.0)
    assert (datadam.weight, datadam.output) == (100.0, 1.0)


def test_many_images_a_class_have_a_larger_rate() -> None:
    assert [arm("cifar10-dm", ipc).lr for ipc in (50, 99, 100, 1000)] == [1.0, 1.0, 10.0, 10.0]
    assert [arm("cifar100-dm", ipc).lr for ipc in (50, 100)] == [1.0, 1.0]
    assert [arm("cifar100-datadam", ipc).lr for ipc in (50, 100)] == [1.0, 10.0]


# -- DC, DSA, CAFE -----------------------------------------------------------------------------------

LOOPS = {1: (1, 1), 10: (10, 50), 20: (20, 25), 30: (30, 20), 40: (40, 15), 50: (50, 10)}


@pytest.mark.parametrize("dataset", ["cifar10", "cifar100"])
@pytest.mark.parametrize("ipc", LOOPS)
def test_dc_and_dsa_train_the_network_by_the_released_table(dataset: str, ipc: int) -> None:
    steps, epochs = LOOPS[ipc]
    for name, init, operations in (("dc", "noise", ()), ("dsa", "real", SIX)):
        assert sgd(f"{dataset}-{name}", ipc) == ("sgd", 0.1, 0.5, "constant", 1000 * steps, init)
        found = match(f"{dataset}-{name}", ipc)
        assert found.gradients is not None
        assert (found.gradients.metric, found.networks.real) == ("rows", 256)
        assert (found.networks.steps, found.siamese.operations) == (steps, operations)
        inner = found.networks.inner
        assert (inner is None) == (steps == 1)
        if inner is not None:
            assert (inner.on, inner.epochs, inner.lr) == ("synthetic", epochs, 0.01)
            assert (inner.momentum, inner.weight_decay, inner.batch) == (0.0, 0.0, 256)
        assert source(f"{dataset}-{name}", "match.networks.steps", ipc) == "code"


def test_other_images_a_class_take_the_nearest_loops_as_ours() -> None:
    for ipc, (steps, epochs) in {5: (1, 1), 6: (10, 50), 15: (10, 50), 46: (50, 10), 300: (50, 10)}.items():
        networks = match("cifar10-dc", ipc).networks
        assert networks.steps == steps
        assert networks.inner is None or networks.inner.epochs == epochs
        assert source("cifar10-dc", "match.networks.steps", ipc) == "ours"


def test_one_image_a_class_leaves_the_classes_of_dc_independent() -> None:
    for name in ("dc", "dsa"):
        assert not match(f"cifar10-{name}", 1).coupled
        assert arm(f"cifar10-{name}", 1).batch.classes == 1
        assert match(f"cifar10-{name}", 10).coupled
        assert arm(f"cifar10-{name}", 10).batch.classes == "all"


@pytest.mark.parametrize("ipc", [1, 10, 50])
def test_cafe_weighs_the_shallowest_layers_least(ipc: int) -> None:
    four, five = (0.1, 0.1, 1.0, 2.0), (0.1, 0.1, 0.1, 1.0, 2.0)
    for dataset, weights in (("cifar10", four), ("tiny", five), ("cifar10", (1.0, 2.0))):
        found = match(f"{dataset}-cafe", ipc)
        assert found.features is not None
        assert (found.features.layers, layer_weights(found.features, len(weights))) == ("all", weights)
        assert (found.features.discriminate, found.coupled) == (0.01, True)
        assert sgd(f"{dataset}-cafe", ipc) == ("sgd", 0.1, 0.5, "constant", 2000 * LOOPS[ipc][0], "noise")
        assert source(f"{dataset}-cafe", "match.networks.steps", ipc) == "ours"


# -- MTT, TESLA --------------------------------------------------------------------------------------

# N, M, T+, lr of images, lr of the learning rate, learning rate, batch, epochs of experts
MTT = """
cifar10   1  50 2  2   100 1e-7 0.01  all  3
cifar10  10  30 2 20   100 1e-5 0.001 all 21
cifar10  50  30 2 40  1000 1e-5 0.001 all 41
cifar100  1  20 3 20  1000 1e-5 0.01  all 22
cifar100 10  20 2 20  1000 1e-5 0.01  all 21
cifar100 50  80 2 40  1000 1e-5 0.01  125 41
tiny      1  10 2 10 10000 1e-4 0.01  all 11
tiny     10  20 2 40 10000 1e-4 0.01  200 41
tiny     50  20 2 40 10000 1e-4 0.01  300 41
"""


@pytest.mark.parametrize("line", MTT.split("\n")[1:-1])
def test_the_table_of_mtt(line: str) -> None:
    dataset, ipc, steps, epochs, start, lr_img, lr_lr, lr, batch, kept = line.split()
    name = f"{dataset}-mtt"
    found = match(name, int(ipc)).trajectory
    assert found is not None
    assert (found.steps, found.epochs, found.latest_start) == (int(steps), int(epochs), int(start))
    assert (found.lr, found.lr_lr, str(found.batch)) == (float(lr), float(lr_lr), batch)
    assert (found.through_weights, found.factor) == (True, 2.0)
    assert sgd(name, int(ipc)) == ("sgd", float(lr_img), 0.5, "constant", 5000, "real")
    assert match(name, int(ipc)).siamese.operations == SIX
    assert source(name, "match.trajectory.steps", int(ipc)) == "code"
    experts = fastdd.resolve(name, [f"ipc={ipc}"]).experts
    assert (experts.count, experts.keep, experts.lr, experts.batch) == (100, "auto", 0.01, 256)
    assert found.latest_start - 1 + found.epochs == int(kept)


def test_tesla_is_mtt_without_later_steps() -> None:
    own = match("cifar10-tesla", 1).trajectory
    assert own is not None
    assert (own.through_weights, own.factor, own.steps, own.latest_start, own.lr_lr) == (
        False,
        1,
        50,
        5,
        1e-7,
    )
    assert (arm("cifar10-tesla", 1).lr, arm("cifar10-tesla", 1).steps) == (1000.0, 10_000)
    for dataset in ("cifar10", "cifar100", "tiny"):
        for ipc in (1, 10, 50):
            if (dataset, ipc) != ("cifar10", 1):
                theirs, mtt = (
                    match(f"{dataset}-tesla", ipc).trajectory,
                    match(f"{dataset}-mtt", ipc).trajectory,
                )
                assert theirs is not None
                assert theirs.model_copy(update={"through_weights": True, "factor": 2.0}) == mtt
    assert source("cifar10-tesla", "lr", 1) == source("cifar100-tesla", "lr", 50) == "code"
    assert source("cifar10-tesla", "lr", 10) == "ours"


# -- KIP, IDC ----------------------------------------------------------------------------------------


def test_kip_is_the_notebook() -> None:
    for dataset in ("cifar10", "cifar100", "tiny"):
        method, found = arm(f"{dataset}-kip"), match(f"{dataset}-kip").kernel
        assert found is not None
        assert (found.depth, found.ridge, found.target) == (1, 1e-6, 5000)
        assert (method.optimizer, method.lr, method.betas, method.steps) == ("adam", 0.04, (0.9, 0.999), 300)


def test_idc_learns_from_real_images_and_its_rate_grows_with_the_set() -> None:
    found = match("cifar10-idc")
    assert found.gradients is not None
    assert (found.gradients.metric, found.gradients.convolutions_only) == ("mse", True)
    inner = found.networks.inner
    assert inner is not None
    assert (inner.on, inner.epochs, inner.images, inner.mix) == ("real", 1, 2000, "cutmix")
    assert (inner.lr, inner.momentum, inner.weight_decay, inner.batch) == (0.01, 0.9, 5e-4, 64)
    assert (found.networks.steps, found.networks.real, found.coupled) == (100, 64, False)
    assert (found.siamese.operations, found.siamese.together) == (("color", "crop", "cutout"), True)
    assert (arm("cifar10-idc").steps, arm("cifar10-idc").momentum) == (200_000, 0.5)
    tiles = {name: arm(f"{name}-idc").formation for name in ("cifar10", "tiny", "imagenet1k", "imagenette")}
    assert {name: (each.kind, each.factor) for name, each in tiles.items() if each is not None} == {
        "cifar10": ("zoom", 2),
        "tiny": ("zoom", 2),
        "imagenet1k": ("zoom", 3),
        "imagenette": ("zoom", 3),
    }
    ten, fifty, tiny = (arm(n, i).lr for n, i in (("cifar10-idc", 10), ("cifar10-idc", 50), ("tiny-idc", 10)))
    assert ten * 0.226**2 == pytest.approx(0.005, rel=1e-3)
    assert (fifty, tiny) == (pytest.approx(5 * ten, rel=1e-3), pytest.approx(4 * ten, rel=1e-3))


# -- all of them -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("dataset", ["cifar10", "cifar100", "tiny", "imagenette"])
def test_dire_is_added_beside_the_matching(name: str, dataset: str) -> None:
    for ipc in (1, 10, 50):
        ((key, with_dire),) = fastdd.resolve(f"{dataset}-{name}", [f"ipc={ipc}"], ["dire"]).arms.items()
        assert key == f"{name}+dire"
        assert list(with_dire.terms) == ["dire"]
        assert with_dire.match is not None
        assert (with_dire.match.added.through, with_dire.match.added.share) == ("teacher", 0.1)
        assert with_dire.batch == arm(f"{dataset}-{name}", ipc).batch


PROTOCOLS = {"dc": "dc", "datadam": "datadam", "cafe": "cafe", "mtt": "mtt", "tesla": "mtt", "idc": "idc"}


@pytest.mark.parametrize("name", METHODS)
def test_students_are_those_of_the_papers(name: str) -> None:
    for dataset in ("cifar10", "cifar100", "tiny", "imagenette"):
        found = resolve(f"{dataset}-{name}")
        wanted = PROTOCOLS.get(name, "dsa") + ("-cifar100" if (dataset, name) == ("cifar100", "idc") else "")
        student, leaf = found.recipe.student, found.leaves["student.protocol"]
        assert (student.protocol, student.network, student.labels) == (wanted, "convnet", "hard")
        assert (leaf.value, leaf.origin) == (wanted, f"method {name}")
        assert found.leaves["student.labels"].origin == f"protocol {wanted}"
    assert resolve("cifar10-mtt").leaves["student.protocol"].source == "code"
    assert resolve("cifar10-kip").leaves["student.protocol"].source == "ours"


def test_a_protocol_that_is_asked_for_takes_the_place_of_the_methods() -> None:
    student = fastdd.resolve("cifar10-dm", ["student.protocol=rded-small"]).student
    assert (student.protocol, student.network, student.labels) == ("rded-small", "resnet18_small", "online")
    assert fastdd.resolve("cifar10-dm", ["student.steps=20", "student.epochs=null"]).student.steps == 20


def test_the_added_share_has_a_source() -> None:
    row = resolve("cifar10-mtt", add=["dire"]).leaves["arms.mtt+dire.match.added.share"]
    assert (row.value, row.origin, row.source) == (0.1, "--add dire", "ours")


# -- the network that fits the images ----------------------------------------------------------------


def test_convnet_is_the_network_whose_depth_fits_the_images() -> None:
    for side, name in ((8, "convnet1"), (32, "convnet3"), (64, "convnet4"), (128, "convnet5")):
        assert network_for("key", "convnet", 10, (3, side, side)) == name
    for name in ("convnet3", "resnet18", "mine:network"):
        assert network_for("key", name, 10, (3, 32, 32)) == name


@pytest.mark.parametrize(("shape", "fits"), [((3, 224, 224), 128), ((3, 64, 80), 64), ((1, 7, 7), 8)])
def test_sizes_without_a_convnet_are_refused(shape: tuple[int, int, int], fits: int) -> None:
    with pytest.raises(InputError) as caught:
        network_for("arms.dm.match.networks.network", "convnet", 10, shape, sizes=lambda side: True)
    assert str(caught.value) == (
        f"arms.dm.match.networks.network: there is no ConvNet for images of {shape[1]} x {shape[2]} pixels, "
        f"only for sides of 8, 16, 32, 64, 128, 256; set data.size to {fits}, or choose another network, "
        "such as resnet20"
    )


def test_the_run_folder_says_which_network_it_was(pets: Path, tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(
        f"data: {{root: {pets}, size: 16}}\nteacher: {{network: resnet8}}\n"
        "arms: {dm: {method: dm}}\nstudent: {network: convnet}\nstudents: {second: {network: convnet}}\n"
    )
    recipe = check(fastdd.resolve(str(tmp_path / "own.yaml"), ["ipc=2"]), tmp_path / "out").recipe
    assert recipe.arms["dm"].match is not None
    assert recipe.arms["dm"].match.networks.network == "convnet2"
    assert (recipe.student.network, recipe.students["second"].network) == ("convnet2", "convnet2")
    with pytest.raises(InputError, match=r"arms\.dm\.match\.networks\.network: .*20 x 20.*data\.size to 16"):
        check(fastdd.resolve(str(tmp_path / "own.yaml"), ["ipc=2", "data.size=20"]), tmp_path / "out")

"""Recipes of every method on every data set: composed, sourced, and equal to the papers' tables."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any

import pytest
import yaml

import fastdd
from fastdd.cli import main
from fastdd.config import Method, Recipe, Terms, as_plain
from fastdd.config.sources import code
from fastdd.errors import InputError
from fastdd.methods import METHODS
from fastdd.protocols import preset
from fastdd.recipes.presets import dataset_names, method_names, paper_items, recipe_names, single_names
from fastdd.recipes.resolve import resolve, table

IPCS = (1, 10, 50, 100)
DATASETS = {  # classes, pixels
    "cifar10": (10, 32),
    "cifar10cpu": (10, 32),
    "cifar100": (100, 32),
    "tiny": (200, 64),
    "imagenet1k": (1000, 224),
    "imagenette": (10, 224),
}
CIFAR10 = ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))
TINY = ((0.4802, 0.4481, 0.3975), (0.2302, 0.2265, 0.2262))
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))

NAMES = method_names()


def arm(name: str, ipc: int = 10) -> Method:
    (only,) = fastdd.resolve(name, [f"ipc={ipc}"]).arms.values()
    return only


def at(section: Method | Terms, path: str) -> Any:
    """A value by its dotted path; None below a section that is absent."""
    value: Any = section
    for key in path.split("."):
        value = None if value is None else getattr(value, key)
    return value


# -- composition -----------------------------------------------------------------------------------


def test_the_names() -> None:
    assert set(dataset_names()) == set(DATASETS)
    composed = {f"{d}-{m}" for d in DATASETS for m in NAMES}
    assert set(recipe_names()) == composed | set(single_names()) | set(paper_items())
    assert len(NAMES) == len(METHODS)  # without custom, with dire


@pytest.mark.parametrize("dataset", DATASETS)
@pytest.mark.parametrize("method", NAMES)
def test_every_method_on_every_data_set(dataset: str, method: str) -> None:
    for ipc in IPCS:
        recipe = fastdd.resolve(f"{dataset}-{method}", [f"ipc={ipc}"])
        assert (recipe.name, recipe.ipc) == (f"{dataset}-{method}", ipc)
        assert list(recipe.arms) == ["sre2l+dire" if method == "dire" else method]
        assert Recipe.model_validate(as_plain(recipe)) == recipe
        small = "resnet20" if dataset == "cifar10cpu" else "resnet18_small"
        assert recipe.teacher.network == ("resnet18" if DATASETS[dataset][1] == 224 else small)
        (only,) = recipe.arms.values()
        expected = "convnet" if only.match else recipe.teacher.network
        if (dataset, method) == ("cifar100", "gvbsm"):
            expected = "convnet3"
        assert recipe.student.network == expected
        assert recipe.teacher.weights is None


@pytest.mark.parametrize("dataset", DATASETS)
@pytest.mark.parametrize("method", NAMES)
def test_every_value_of_a_method_and_a_data_set_has_a_source(dataset: str, method: str) -> None:
    for ipc in IPCS:
        for path, leaf in resolve(f"{dataset}-{method}", [f"ipc={ipc}"]).leaves.items():
            told = path in ("name", "description", "dataset", "ipc") or path.endswith(".title")
            assert told or leaf.source in ("paper", "code", "ours"), (path, leaf)


def test_what_was_not_released_for_a_data_set_is_ours() -> None:
    def source(name: str, path: str, ipc: int = 10) -> tuple[str, str]:
        leaf = resolve(name, [f"ipc={ipc}"]).leaves[path]
        return leaf.origin, leaf.source

    assert source("cifar100-sre2l", "arms.sre2l.lr") == ("method sre2l", "code")
    assert source("cifar10-sre2l", "arms.sre2l.lr") == ("method sre2l", "ours")
    assert source("tiny-sre2l", "arms.sre2l.lr") == ("method sre2l on tiny", "code")
    assert source("imagenette-sre2l", "arms.sre2l.steps") == ("method sre2l on imagenette", "ours")
    assert source("cifar10-cda", "arms.cda.terms.bn.weight")[1] == "ours"
    assert source("tiny-infer", "arms.infer.lr")[1] == "ours"
    assert source("imagenette-sre2lpp", "arms.sre2lpp.batch.classes")[1] == "code"
    assert source("imagenet1k-sre2l", "arms.sre2l.terms.ce.weight")[1] == "paper"
    assert source("imagenette-sre2l", "arms.sre2l.terms.ce.weight")[1] == "paper"
    assert source("cifar100-dire", "arms.sre2l+dire.lr") == ("add dire as released", "code")
    assert source("tiny-dire", "arms.sre2l+dire.lr")[1] == "ours"
    assert source("cifar10-edc", "arms.edc.steps", 1) == ("method edc on cifar10 at ipc 1", "code")


def test_declarations_speak_of_known_data_sets() -> None:
    for name in METHODS:
        declared = METHODS[name]
        assert {*declared.scripts, *declared.on} <= set(DATASETS), name


# -- values of the tables --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dataset", "constants", "training"),
    [
        ("cifar10cpu", IMAGENET, ("resnet20", 30, 128, 0.1, 5e-4, "onecycle", 0.2, None)),
        ("cifar10", CIFAR10, ("resnet18_small", 200, 128, 0.1, 5e-4, "cosine", 0.0, None)),
        ("cifar100", CIFAR10, ("resnet18_small", 200, 128, 0.1, 5e-4, "cosine", 0.0, None)),
        ("tiny", TINY, ("resnet18_small", 50, 256, 0.2, 1e-4, "cosine", 0.1, (0.08, 1.0))),
        ("imagenet1k", IMAGENET, ("resnet18", 90, 256, 0.1, 1e-4, "cosine", 0.0, (0.08, 1.0))),
        ("imagenette", IMAGENET, None),
    ],
)
def test_teachers(dataset: str, constants: tuple[Any, Any], training: tuple[Any, ...] | None) -> None:
    recipe = fastdd.resolve(f"{dataset}-sre2l")
    teacher = recipe.teacher
    assert (teacher.mean, teacher.std) == constants
    if training:
        got = (
            teacher.network,
            teacher.epochs,
            teacher.batch,
            teacher.lr,
            teacher.weight_decay,
            teacher.schedule,
        )
        assert (*got, teacher.warmup, teacher.scale) == training
        assert (teacher.momentum, teacher.nesterov) == (0.9, dataset == "cifar10cpu")
    side = DATASETS[dataset][1]
    assert (recipe.data.size, recipe.data.resize) == (
        (224, 256) if side == 224 else (64 if side == 64 else None, None)
    )


GOLDEN = """
cifar100-sre2l    lr=0.25 steps=1000 augment.roll=[0,4] augment.scale=null bn.weight=0.01 batch.classes=100
cifar100-sre2l    init=noise
tiny-sre2l        lr=0.1 steps=4000 augment.roll=[-4,4] augment.scale=[0.08,1] augment.flip=0.5 bn.weight=1
tiny-sre2l        batch.classes=100 batch.slots=1
imagenet1k-sre2l  lr=0.25 steps=4000 augment.roll=[0,32] augment.scale=[0.08,1] bn.weight=0.01
imagenet1k-sre2l  batch.classes=100
imagenette-sre2l  lr=0.25 steps=4000 augment.roll=[0,32] augment.scale=[0.08,1] bn.weight=0.01
tiny-cda          lr=0.4 steps=4000 augment.roll=[0,4] bn.weight=0.05 augment.curriculum=cosine
imagenet1k-cda    lr=0.25 steps=4000 augment.roll=[0,32] bn.weight=0.01 augment.milestone=1
cifar10-dwa       lr=0.25 steps=1000 augment.roll=[0,4] bn.weight=0.01 bn.variance=11 perturb.steps=12
tiny-dwa          lr=0.1 steps=2000 augment.roll=[0,4] bn.variance=11 batch.classes=200 perturb.steps=12
imagenet1k-dwa    lr=0.25 steps=2000 augment.roll=[0,32] bn.variance=2 perturb.steps=15 perturb.rho=0.015
cifar100-infer    lr=0.25 steps=1000 augment.roll=[0,4] bn.weight=1 batch.classes=all
imagenet1k-infer  lr=0.25 steps=2000 augment.scale=[0.08,1] bn.weight=0.01 batch.classes=all
tiny-lpld         lr=0.1 steps=4000 augment.roll=[-4,4] bn.weight=0.05 bn.target=class batch.classes=1
tiny-lpld         batch.slots=100
imagenet1k-lpld   lr=0.25 steps=4000 augment.roll=[0,32] bn.weight=0.01 batch.classes=1 batch.slots=all
cifar100-gvbsm    lr=0.05 steps=4000 conv.weight=0.01 conv.momentum=0.8 conv.drop=0.4 conv.patch=4
cifar100-gvbsm    augment.pad=4
tiny-gvbsm        lr=0.05 augment.pad=8 conv.patch=4 nuc.tau=4 ensemble=round_robin
imagenet1k-gvbsm  lr=0.1 steps=4000 conv.weight=0.01 conv.momentum=0.4 conv.drop=0 conv.patch=16 augment.pad=0
imagenet1k-gvbsm  augment.scale=[0.08,1] augment.roll=[0,32]
cifar10-edc       lr=0.05 steps=2000 augment.scale=[0.08,1]
cifar100-edc      lr=0.05 steps=2000 augment.scale=[0.5,1] conv.weight=0.01 conv.drop=0 init=real nuc=null
imagenet1k-edc    lr=0.05 steps=1000 augment.scale=[0.5,1] conv.weight=0.1 conv.category=0.5 conv.momentum=0.8
imagenet1k-edc    init=rded
imagenette-edc    lr=0.05 steps=50 conv.weight=0.01 conv.momentum=0 conv.patch=16 init=rded
tiny-deda         steps=4000 augment.scale=[0.08,1] gaussian.gamma=50 covariance.lambda_var=0.2
tiny-deda         covariance.lambda_cov=4
cifar10-deda-paper lr=0.25 steps=1000 init=noise augment.roll=[0,4] gaussian.layers=stages batch.classes=1
tiny-deda-paper   lr=0.1 steps=4000 augment.scale=[0.08,1] augment.roll=[-4,4] gaussian.gamma=50 bn=null
imagenet1k-deda-paper lr=0.25 steps=4000 augment.roll=[0,32] covariance.lambda_var=0.2
imagenet1k-delt   lr=0.25 steps=4000 bn.weight=0.01 augment.roll=[0,0] early_late.rounds=8 init=medium
imagenet1k-rded   steps=0 init=rded rded.images=300 rded.crops=5
cifar100-sre2lpp  init=rded rded.rank=medium rded.source=original
cifar100-cvdd     ensemble=2 ensemble_per=slot ensemble_weights=accuracy
cifar10-dwa       perturb.restore=true perturb.accumulate=false
cifar100-sre2lpp  lr=0.25 steps=4000 bn.weight=0.01 augment.scale=[0.08,1] augment.flip=0.5 augment.roll=[0,4]
cifar100-fadrm    lr=0.25 steps=2000 residual.stages=4 residual.alpha=0.5 residual.reset=true sizes=null
cifar100-fadrm    init=rded rded.rank=medium batch.classes=100 bn.weight=0.01 save.rounding=truncate
cifar100-fadrmplus lr=0.25 steps=2000 residual.stages=4 ensemble=round_robin augment.roll=[0,4]
tiny-fadrm        lr=0.01 steps=1000 residual.stages=2 residual.alpha=0.5 bn.weight=0.01
tiny-fadrmplus    lr=0.25 steps=2000 residual.stages=4 bn.weight=0.01
imagenette-fadrm  lr=0.05 steps=2000 sizes=[200,224,200,224] augment.roll=[0,32] batch.classes=10
imagenette-fadrmplus lr=0.25 sizes=[200,224,200,224] ensemble=round_robin batch.classes=10
imagenet1k-fadrm  lr=0.25 steps=2000 sizes=[200,224,200,224] augment.roll=[0,32] batch.classes=100
cifar10-fadrm     lr=0.25 steps=2000 residual.stages=4 residual.anchor=initial sizes=null budgets=equal
imagenette-cvdd   lr=0.25 steps=4000 bn.weight=0.01 augment.roll=[0,32] batch.classes=10 ensemble=2
cifar100-cim      lr=0.05 steps=200 decay=0.002 pairs.layer=embedding pairs.distance=l1 formation.images=4
cifar100-cim      init=confident init_first=300 augment.pad=4 augment.cutout=0.5 schedule=constant clip=false
tiny-cim          lr=0.044 decay=0.0023 pairs.layer=embedding augment.pad=8
imagenet1k-cim    lr=0.044 decay=0.0023 pairs.layer=stages.1 augment.pad=28
cifar100-dire     lr=0.1 steps=1000 bn.weight=1 batch.classes=50 batch.slots=10 dire.r_cd=0.1 dire.r_cdm=0.1
cifar100-dire     dire.r_edm=0.001 dire.weight=1 dire.reading=code
"""


@pytest.mark.parametrize("line", GOLDEN.split("\n")[1:-1])
def test_values_of_the_tables(line: str) -> None:
    name, *pairs = line.split()
    method = arm(name)
    for path, _, raw in (pair.partition("=") for pair in pairs):
        value = yaml.safe_load(raw)
        holder = method if hasattr(method, path.split(".")[0]) else method.terms
        assert at(holder, path) == (tuple(value) if isinstance(value, list) else value), path


def test_every_first_layer_and_momenta() -> None:
    for dataset in DATASETS:
        for name in NAMES:
            method = arm(f"{dataset}-{name}")
            assert method.betas == ((0.9, 0.999) if name in ("kip", "cim") else (0.5, 0.9))
            for term in (method.terms.bn, method.terms.conv):
                assert term is None or term.first == 10.0


# -- students ----------------------------------------------------------------------------------------

STUDENTS = {  # data set -> method -> protocol; others have the data set's
    "cifar10": {
        "": "sre2l-cifar",
        "dwa": "dwa-cifar",
        "dire": "dire",
        "infer": "infer",
        "gvbsm": "gvbsm-cifar10",
        "edc": "edc-cifar10",
        "rded": "rded-small",
        "delt": "delt-small",
        "sre2lpp": "cvdd",
        "cvdd": "cvdd",
        "fadrm": "fadrm-cifar10",
        "fadrmplus": "fadrm-cifar10",
        "cim": "cim",
    },
    "cifar100": {
        "": "sre2l-cifar",
        "dwa": "dwa-cifar",
        "dire": "dire",
        "infer": "infer",
        "gvbsm": "gvbsm-cifar100",
        "edc": "edc-cifar100",
        "rded": "rded-small",
        "delt": "delt-small",
        "sre2lpp": "cvdd",
        "cvdd": "cvdd",
        "fadrm": "fadrm-cifar100",
        "fadrmplus": "fadrm-cifar100",
        "cim": "cim",
    },
    "tiny": {
        "": "sre2l-tiny",
        "lpld": "lpld-tiny",
        "dwa": "dwa-tiny",
        "infer": "dwa-tiny",
        "gvbsm": "gvbsm-tiny",
        "edc": "edc-tiny",
        "rded": "rded-small",
        "delt": "delt-small",
        "sre2lpp": "cvdd",
        "cvdd": "cvdd",
        "fadrm": "fadrm-tiny",
        "fadrmplus": "fadrm-tiny",
        "cim": "cim",
    },
    "imagenet1k": {
        "": "sre2l-imagenet",
        "lpld": "lpld-imagenet",
        "dwa": "dwa-imagenet",
        "infer": "dwa-imagenet",
        "gvbsm": "gvbsm-imagenet",
        "edc": "edc-imagenet",
        "rded": "rded",
        "delt": "delt",
        "sre2lpp": "cvdd-imagenet",
        "cvdd": "cvdd-imagenet",
        "fadrm": "fadrm-imagenet",
        "fadrmplus": "fadrm-imagenet",
        "cim": "cim-imagenet",
    },
    "imagenette": {
        "": "sre2l-imagenet",
        "edc": "edc-imagenet10",
        "rded": "rded",
        "delt": "delt",
        "sre2lpp": "cvdd-imagenet",
        "cvdd": "cvdd-imagenet",
        "fadrm": "fadrm-imagenette",
        "fadrmplus": "fadrm-imagenette",
        "cim": "cim-imagenette",
    },
    "cifar10cpu": {"": "house"},
}
MATCHING = {
    "dm": "dsa",
    "dsa": "dsa",
    "kip": "dsa",
    "dc": "dc",
    "cafe": "cafe",
    "datadam": "datadam",
    "mtt": "mtt",
    "tesla": "mtt",
    "idc": "idc",
}


@pytest.mark.parametrize("dataset", DATASETS)
def test_students_have_the_protocol_of_the_paper(dataset: str) -> None:
    for method in NAMES:
        student = fastdd.resolve(f"{dataset}-{method}").student
        own = {**STUDENTS[dataset], **MATCHING, "idc": "idc-cifar100" if dataset == "cifar100" else "idc"}
        assert student.protocol == own.get(method, own[""]), method
        assert (student.epochs is None) == (student.protocol == "house"), method  # epochs grow with the set


def test_an_image_a_class_more_is_a_longer_training() -> None:
    from fastdd.protocols import settle_student

    def steps(name: str, ipc: int) -> int:
        classes, _ = DATASETS[name.partition("-")[0]]
        return settle_student(
            fastdd.resolve(name, [f"ipc={ipc}"]).student, ipc * classes, classes
        ).training_steps

    assert [steps("cifar100-deda", ipc) for ipc in (10, 50)] == [400 * 8, 400 * 40]
    assert [steps("tiny-deda", ipc) for ipc in (10, 50)] == [100 * 8, 100 * 40]
    assert [steps("imagenet1k-deda", ipc) for ipc in (10, 50)] == [300 * 10, 300 * 49]
    assert [steps("cifar10cpu-deda", ipc) for ipc in (10, 50)] == [400, 400]
    assert fastdd.resolve("cifar100-deda").student.teacher_mode == "train"  # as released
    assert fastdd.resolve("tiny-deda").student.scale == fastdd.resolve("imagenet1k-deda").student.scale


def test_the_stretch_of_committee_voting_depends_on_the_images_a_class() -> None:
    def of(name: str, ipc: int) -> tuple[float, object]:
        found = resolve(name, [f"ipc={ipc}"])
        assert found.leaves["student.stretch"].source == "code"
        return found.recipe.student.stretch, found.recipe.student.lr

    assert [of("cifar100-cvdd", ipc)[0] for ipc in (1, 10, 50)] == [1.0, 2.0, 1.0]
    assert [of("tiny-sre2lpp", ipc)[0] for ipc in (1, 10, 50)] == [2.0, 1.0, 2.0]
    assert [of("imagenet1k-cvdd", ipc)[0] for ipc in (1, 10, 50)] == [2.0, 2.0, 1.0]
    assert [of("imagenette-cvdd", ipc) for ipc in (10, 50)] == [(1.0, 5e-4), (2.0, 5e-4)]
    assert of("cifar10-cvdd", 10) == (1.0, 1e-3)


def test_the_rates_of_fadrm_depend_on_the_set_and_the_images_a_class() -> None:
    def of(name: str, ipc: int) -> tuple[object, float, str]:
        found = resolve(name, [f"ipc={ipc}"])
        student = found.recipe.student
        return student.lr, student.stretch, found.leaves["student.protocol"].source

    assert [of("cifar100-fadrm", ipc)[:2] for ipc in (1, 10, 50)] == [(5e-4, 2), (1e-3, 2), (1e-3, 1)]
    assert [of("imagenette-fadrmplus", ipc)[:2] for ipc in (1, 10, 50)] == [(5e-4, 2), (5e-4, 1), (5e-4, 2)]
    assert of("imagenet1k-fadrmplus", 50) == (1e-3, 1, "code")
    assert of("imagenet1k-fadrmplus", 40) == (1e-3, 1, "ours")
    assert [of("cifar10-fadrm", ipc) for ipc in (1, 10)] == [(5e-4, 2, "ours"), (1e-3, 2, "ours")]
    assert preset("fadrm-imagenette-resnet101-ipc50")["lr"] == code(1e-3)
    assert preset("fadrm-imagewoof-resnet50")["lr"] == code(5e-3)
    modes = [fastdd.resolve(f"tiny-{method}").student.teacher_mode for method in ("fadrm", "fadrmplus")]
    assert modes == ["eval", "train"]
    batch = fastdd.resolve("imagenette-fadrm").student
    assert (batch.batch, batch.accumulate, batch.epochs) == (10, 2, 300)
    assert fastdd.resolve("cifar100-fadrm").student.epochs == 1000


def test_fadrmplus_has_the_released_teachers_in_their_order() -> None:
    def committee(name: str) -> list[str]:
        return [network.removesuffix("_small") for network in fastdd.resolve(name).committee]

    assert committee("cifar100-fadrmplus") == ["densenet121", "shufflenet_v2_x0_5", "mobilenet_v2"]
    assert committee("tiny-fadrmplus") == ["shufflenet_v2_x0_5", "densenet121", "mobilenet_v2"]
    assert committee("imagenet1k-fadrmplus") == ["densenet121", "shufflenet_v2_x1_0", "mobilenet_v2"]
    assert committee("cifar10cpu-fadrmplus") == ["resnet32"]
    one = fastdd.resolve("tiny-fadrmplus", ["ipc=1"]).arms["fadrmplus"]
    assert one.committee == ("shufflenet_v2_x0_5_small", "mobilenet_v2_small")
    assert fastdd.resolve("cifar10-fadrmplus").labels.teachers == "all"


def test_the_recipes_for_a_laptop_are_those_of_small_networks_and_the_short_protocol() -> None:
    for name in ("table", "methods", "ladders", "best", "teacher", "matching-1", "matching-10"):
        recipe = fastdd.resolve(f"cifar10-{name}")
        protocols = {each.protocol for each in (recipe.student, *recipe.students.values())}
        assert protocols <= {"house", "dsa"}, name
        assert (recipe.teacher.network, recipe.teacher.mean) == ("resnet20", IMAGENET[0]), name
    small, large = fastdd.resolve("cifar10cpu-mtt"), fastdd.resolve("cifar10-mtt")
    assert small.arms == large.arms  # the methods are those of CIFAR-10


# -- images a class --------------------------------------------------------------------------------


def differences(name: str, ipc: int) -> dict[str, Any]:
    """What is not as with 10 images a class, by path within the arm."""

    def values(ipc: int) -> dict[str, Any]:
        rows = {path: value for path, value, *_ in table(resolve(name, [f"ipc={ipc}"])) if path != "ipc"}
        return {
            path.split(".", 2)[2] if path.startswith("arms.") else path: value for path, value in rows.items()
        }

    base, other = values(10), values(ipc)
    return {path: other.get(path) for path in {*base, *other} if base.get(path) != other.get(path)}


KNOW_THE_IPC = {"gvbsm", "edc", "delt", "deda", "deda-paper", "dm", "dc", "dsa", "datadam", "cafe"}
KNOW_THE_IPC |= {"mtt", "tesla", "idc", "cim"}
KNOW_THE_IPC |= {"cvdd", "sre2lpp", "fadrm", "fadrmplus"}  # their students do


@pytest.mark.parametrize("dataset", DATASETS)
@pytest.mark.parametrize("method", sorted(set(NAMES) - KNOW_THE_IPC))
def test_most_methods_do_not_know_the_images_a_class(dataset: str, method: str) -> None:
    assert all(differences(f"{dataset}-{method}", ipc) == {} for ipc in IPCS)


def test_what_the_images_a_class_change() -> None:
    whole = {50: (2, 50), 100: (1, 100), 1: (100, 1)}
    for ipc, (classes, slots) in whole.items():
        assert differences("cifar100-gvbsm", ipc) == {"batch.classes": classes, "batch.slots": slots}
        assert differences("tiny-edc", ipc) == {"batch.classes": classes, "batch.slots": slots}
    assert differences("cifar10-edc", 1) == {"batch.classes": 100, "batch.slots": 1, "steps": 75}
    assert at(arm("imagenet1k-gvbsm", 10), "batch.classes") == 8
    assert differences("imagenet1k-gvbsm", 100) == {"batch.classes": 1, "batch.slots": 80}
    assert differences("tiny-delt", 50) == {"batch.classes": 2}
    assert differences("tiny-delt", 100) == differences("tiny-delt", 500) == {"batch.classes": 1}
    assert differences("tiny-delt", 1) == {"batch.classes": 100, "early_late.rounds": None}
    assert all(differences("tiny-deda", ipc) == {} for ipc in (2, 50, 100))
    deda = arm("tiny-deda", 1)
    assert deda.terms.covariance is None
    assert at(deda, "terms.gaussian.gamma") == 0.0
    assert at(deda, "terms.gaussian.weight") == 1.0


@pytest.mark.parametrize("bad", ["ipc=0", "ipc=ten", "ipc=[1]", "ipc=null"])
def test_images_a_class_that_are_no_count(bad: str) -> None:
    with pytest.raises(InputError, match="ipc"):
        resolve("tiny-gvbsm", [bad])


def test_the_last_ipc_counts_and_overrides_win() -> None:
    assert resolve("tiny-delt", ["ipc=10", "ipc=50"]).recipe.arms["delt"].batch.classes == 2
    assert resolve("tiny-delt", ["method.batch.classes=7", "ipc=50"]).recipe.arms["delt"].batch.classes == 7
    assert (
        resolve("tiny-delt", ["ipc=1", "method.early_late.rounds=4"]).recipe.arms["delt"].early_late
        is not None
    )


# -- committees ------------------------------------------------------------------------------------


def test_committees_share_the_images_and_the_training() -> None:
    for dataset in DATASETS:
        for method in NAMES:
            recipe = fastdd.resolve(f"{dataset}-{method}")
            several = method in ("gvbsm", "edc", "infer", "cvdd", "fadrmplus") and (
                dataset != "cifar10cpu" or method in ("cvdd", "fadrmplus")
            )
            assert bool(recipe.committee) == several
            for name, member in recipe.committee.items():
                assert name == member.network != recipe.teacher.network
                assert (member.mean, member.flip) == (recipe.teacher.mean, recipe.teacher.flip)
                if method in ("infer", "cvdd", "fadrmplus"):
                    assert member.epochs == recipe.teacher.epochs
    assert list(fastdd.resolve("cifar10cpu-cvdd").committee) == ["resnet32"]
    five = ["convnet3", "mobilenet_v2_half", "wrn_16_2", "shufflenet_v2_x0_5_small"]  # with the ResNet-18
    for dataset, epochs in (("cifar10", 5), ("cifar100", 50)):
        committee = fastdd.resolve(f"{dataset}-gvbsm").committee
        assert list(committee) == five
        squeezed = {(each.epochs, each.lr, each.schedule, each.weight_decay) for each in committee.values()}
        assert squeezed == {(epochs, 0.05, "constant", 0.0)}
        eight = list(fastdd.resolve(f"{dataset}-edc").committee)
        assert eight == [*five, "convnet1_32", "convnet2_32", "convnet3_w32"]
        assert list(fastdd.resolve(f"{dataset}-infer").committee)[-1] == "shufflenet_g2"
        assert len(fastdd.resolve(f"{dataset}-infer").committee) == 3
        assert len(fastdd.resolve(f"{dataset}-cvdd").committee) == 4
    assert list(fastdd.resolve("tiny-edc").committee) == ["convnet3_64", *five[1:]]
    large = list(fastdd.resolve("imagenet1k-gvbsm").committee)
    assert large == ["mobilenet_v2", "efficientnet_b0", "shufflenet_v2_x0_5"]
    assert list(fastdd.resolve("imagenet1k-edc").committee) == [*large, "alexnet"]
    names = (
        "cifar10-infer",
        "cifar10-edc",
        "cifar10-gvbsm",
        "cifar10-cvdd",
        "cifar10-deda",
        "cifar10cpu-cvdd",
    )
    labels = [fastdd.resolve(name).labels.teachers for name in names]
    assert labels == ["all", "all", "all", "all", "first", "first"]


@pytest.mark.slow
def test_the_networks_take_the_images() -> None:
    from fastdd.models.outline import outline
    from fastdd.models.registry import student

    wanted = {}
    for dataset, (classes, side) in DATASETS.items():
        for method in NAMES:
            recipe = fastdd.resolve(f"{dataset}-{method}")
            for teacher in (recipe.teacher, *recipe.committee.values()):
                wanted[teacher.network, side] = classes
    for item in paper_items():
        recipe = fastdd.resolve(item)
        classes, side = DATASETS[str(recipe.dataset)]
        trained = (recipe.teacher, *recipe.committee.values(), recipe.student, *recipe.students.values())
        for each in trained:
            wanted[student(each.network, side), side] = classes
    for (network, side), classes in wanted.items():
        outline("teacher", network, classes, (3, side, side))


# -- what a user meets -----------------------------------------------------------------------------


def test_a_file_may_name_a_data_set(tmp_path: Path) -> None:
    file = tmp_path / "own.yaml"
    file.write_text(
        "dataset: tiny\nteacher: {epochs: 7}\ncommittee: {second: {network: resnet34_small}}\n"
        "arms: {a: {method: sre2l}, b: {method: gvbsm, lr: 0.3}}\n"
    )
    resolved = resolve(str(file), ["ipc=50"])
    recipe, known = resolved.recipe, fastdd.resolve("tiny-sre2l", ["ipc=50"])
    assert recipe.arms["a"] == known.arms["sre2l"]
    assert (recipe.arms["b"].lr, recipe.arms["b"].augment.pad, recipe.arms["b"].batch.slots) == (0.3, 8, 50)
    assert recipe.teacher == known.teacher.model_copy(update={"epochs": 7})
    assert recipe.committee["second"] == known.teacher.model_copy(update={"network": "resnet34_small"})
    assert resolved.leaves["teacher.lr"].origin == "data set tiny"
    assert resolved.leaves["teacher.epochs"].origin == str(file)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("dataset: tinny", ["unknown dataset 'tinny' (did you mean 'tiny'?)", "imagenet1k", "data.root"]),
        ("dataset: [tiny]", ["unknown dataset ['tiny']"]),
        ("dataset: 3", ["unknown dataset 3"]),
        ("dataset: tiny\nteacher: 3", ["teacher", "got 3"]),
        ("dataset: tiny\ncommittee: {a: 3}", ["committee.a", "got 3"]),
    ],
)
def test_bad_data_sets(tmp_path: Path, text: str, expected: list[str]) -> None:
    (tmp_path / "own.yaml").write_text(f"{text}\narms: {{a: {{method: sre2l}}}}")
    with pytest.raises(InputError) as caught:
        resolve(str(tmp_path / "own.yaml"))
    assert all(part in str(caught.value) for part in expected), caught.value


def test_names_that_are_nearly_right() -> None:
    for name, expected in {
        "cifar100-dedda": "did you mean 'cifar100-deda'",
        "imagenet1k": "imagenet1k-deda",
        "cifar10-custom": "unknown recipe",
    }.items():
        with pytest.raises(InputError, match=expected):
            resolve(name)


def test_the_list_of_recipes_is_short() -> None:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        assert main(["recipes"]) == 0
    lines = out.getvalue().splitlines()
    assert all(any(line.split()[:1] == [f"{dataset}-METHOD"] for line in lines) for dataset in DATASETS)
    assert all(any(line.split()[:1] == [name] for line in lines) for name in single_names())
    rows = 1 + len(DATASETS) + len(single_names())
    assert lines[rows].startswith(" METHOD is one of: ")
    table = next(number for number, line in enumerate(lines) if line.startswith(" table or figure"))
    assert " ".join(lines[rows:table]).replace(",", "").split()[4:] == NAMES

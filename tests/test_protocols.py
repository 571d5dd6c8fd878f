"""Protocols: presets, schedules with golden values, RDED's rules, and how a recipe is laid over a preset."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from fastdd.config import Student, as_plain
from fastdd.config.sources import leaves, tree_of
from fastdd.config.student import PLAIN
from fastdd.errors import InputError
from fastdd.evaluate import protocol_hash, protocol_text
from fastdd.evaluate.learner import learning_rate, learning_rate_factor
from fastdd.protocols import PROTOCOLS, SettledStudent, settle_student
from fastdd.recipes.resolve import resolve, table
from fastdd.recipes.students import resolve_student
from fastdd.recover.loop import cosine


def preset(name: str, **changes: object) -> Student:
    values = resolve_student({}, name).model_dump()
    return Student.model_validate({**values, **changes})


# -- schedules ------------------------------------------------------------------------------------


def test_half_a_cosine_has_the_golden_values() -> None:
    config = preset("rded")
    assert learning_rate_factor(config, 0, 300) == 1.0
    assert learning_rate_factor(config, 150, 300) == pytest.approx(0.8536, abs=5e-5)
    assert learning_rate_factor(config, 299, 300) == pytest.approx(0.5026, abs=5e-5)


def test_the_house_has_the_cosine_of_recover_to_the_bit() -> None:
    config = settle_student(Student(lr=0.0123), 100, 10)
    assert all(learning_rate(config, s, 400, 7) == cosine(0.0123, s, 400) for s in range(400))


def torch_rates(optimizer: torch.optim.Optimizer, schedule: Any, epochs: int) -> list[float]:
    rates = []
    for _ in range(epochs):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return rates


def test_warm_up_and_cosine_are_torchs() -> None:
    config = settle_student(preset("sre2l-tiny"), 100, 10)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], 0.2)
    warm = torch.optim.lr_scheduler.LinearLR(optimizer, 0.01, total_iters=5)
    main = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 95)
    both = torch.optim.lr_scheduler.SequentialLR(optimizer, [warm, main], [5])
    ours = [learning_rate(config, 4 * epoch, 400, 4) for epoch in range(100)]
    assert ours == pytest.approx(torch_rates(optimizer, both, 100), rel=1e-9)
    assert ours[0] == pytest.approx(0.002)


def test_multistep_is_torchs() -> None:
    config = settle_student(preset("edc-cifar10"), 100, 10)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], 1e-3)
    theirs = torch.optim.lr_scheduler.MultiStepLR(optimizer, [800, 900, 950], 0.5)
    ours = [learning_rate(config, epoch, 1000, 1) for epoch in range(1000)]
    assert ours == pytest.approx(torch_rates(optimizer, theirs, 1000), rel=1e-12)


def test_cos2_drops_sharply_after_five_sixths() -> None:
    config = preset("edc-cifar100")
    assert [learning_rate_factor(config, done, 1000) for done in (0, 500, 834, 900, 999)] == pytest.approx(
        [1.0, 0.853553, 0.104482, 0.062941, 0.000629], abs=1e-6
    )
    assert learning_rate_factor(config, 833, 1000) == pytest.approx(0.629662, abs=1e-6)


def test_a_rate_per_epoch_stays_within_the_epoch() -> None:
    config = settle_student(preset("sre2l-cifar"), 100, 10)
    rates = [learning_rate(config, step, 400 * 8, 8) for step in range(24)]
    assert rates == [rates[0]] * 8 + [rates[8]] * 8 + [rates[16]] * 8
    assert rates[8] == pytest.approx(cosine(1e-3, 1, 400), rel=1e-12)
    constant = settle_student(Student(schedule="constant", lr=0.5), 100, 10)
    assert learning_rate(constant, 3, 4, 1) == 0.5


# -- presets --------------------------------------------------------------------------------------

TABLE = {  # optimizer, lr, weight decay, epochs, batch, mix, temperature, T^2, teacher, reported
    "sre2l-imagenet": ("adamw", 1e-3, 0.01, 300, 1024, "cutmix", 20, False, "eval", "best"),
    "sre2l-cifar": ("adamw", 1e-3, 0.01, 400, 128, "mixup", 30, False, "train", "last"),
    "sre2l-tiny": ("sgd", 0.2, 1e-4, 100, 256, "none", 20, True, "eval", "last"),
    "lpld-imagenet": ("adamw", 1e-3, 0.01, 300, 128, "cutmix", 20, False, "eval", "best"),
    "lpld-tiny": ("sgd", 0.2, 1e-4, 100, 64, "none", 20, True, "eval", "best"),
    "dwa-imagenet": ("adamw", 1e-3, 0.01, 300, 128, "cutmix", 20, False, "eval", "best"),
    "dwa-tiny": ("sgd", 0.2, 1e-4, 200, 64, "cutmix", 20, True, "eval", "best"),
    "dwa-cifar": ("adamw", 1e-3, 0.01, 400, 128, "mixup", 30, False, "train", "best"),
    "rded": ("adamw", "by_network", 0.01, 300, "by_ipc", "cutmix", 20, False, "eval", "best"),
    "delt": ("adamw", "by_network", 0.01, 300, "by_ipc", "cutmix", 20, False, "eval", "best"),
    "dire": ("adamw", 1e-3, 0.01, 400, 128, "mixup", 30, False, "train", "best"),
    "ddr-hard": ("sgd", 0.01, 5e-4, 1000, 128, "none", 30, False, "eval", "last"),
    "ddr-soft": ("adamw", 1e-3, 0.01, 300, 1024, "cutmix", 1, False, "eval", "last"),
    "cvdd": ("adamw", 1e-3, 0.01, 300, 16, "cutmix", 20, False, "train", "last"),
}


@pytest.mark.parametrize("name", TABLE)
def test_presets_are_the_papers_table(name: str) -> None:
    found = preset(name)
    assert (
        found.optimizer,
        found.lr,
        found.weight_decay,
        found.epochs,
        found.batch,
        found.mix,
        found.temperature,
        found.t_squared,
        found.teacher_mode,
        found.reported,
    ) == TABLE[name]
    assert found.steps is None
    assert found.decay_norms == (
        name in ("sre2l-cifar", "dwa-cifar", "dire", "ddr-soft") or found.optimizer == "sgd"
    )


def test_every_preset_is_valid_and_every_value_has_a_source() -> None:
    for name in PROTOCOLS:
        assert all(leaf.source for _, leaf in leaves(tree_of(dict(PROTOCOLS[name]), name)))
        config = settle_student(preset(name), 500, 10)
        assert protocol_hash(config) == protocol_hash(config.model_copy(update={"protocol": "x", "seeds": 9}))
        assert config.network in protocol_text(config)


@pytest.mark.parametrize(
    ("values", "digest"),
    [
        ({}, "8320d521"),
        ({"steps": 1000, "batch": 20, "evaluations": 1, "precision": "bf16"}, "4d2ce7f7"),
        ({"network": "resnet8", "pad": 1, "flip": 0.0}, "c7e6d1c1"),
    ],
)
def test_published_results_keep_their_hash(values: dict[str, Any], digest: str) -> None:
    """README's tables and the digits have these; a key that is renamed must not change them."""
    assert protocol_hash(Student.model_validate(values)) == digest


def test_the_house_keeps_its_hash() -> None:
    """As before there were other protocols, so that accuracies of then and now are known to be comparable."""
    assert protocol_hash(preset("house")) == protocol_hash(Student()) == "8320d521"


def test_an_unknown_protocol_is_named_with_its_nearest() -> None:
    with pytest.raises(InputError, match=r"unknown protocol 'sre2l-cifr' \(did you mean 'sre2l-cifar'\?\)"):
        resolve_student({}, "sre2l-cifr")


def test_presets_do_not_need_torch() -> None:
    modules = "fastdd.protocols, fastdd.methods, fastdd.recipes.presets"
    program = f"import sys, {modules}; assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# -- rules ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ipc", "classes", "batch"),
    [
        (1, 10, 10),
        (10, 10, 50),
        (50, 10, 100),
        (1, 100, 20),
        (10, 100, 100),
        (50, 1000, 200),
        (10, 200, 100),
        (1, 200, 100),
        (1, 5, 5),
        (20, 10, 50),
        (30, 10, 100),
        (40, 100, 200),
        (100, 10, 100),
        (100, 1000, 200),
        (100, 200, 100),
    ],
)
def test_rdeds_batch(ipc: int, classes: int, batch: int) -> None:
    config = settle_student(preset("rded"), ipc * classes, classes)
    assert config.batch == batch
    assert config.training_steps == 300 * -(-ipc * classes // batch)


def test_rdeds_batch_knows_some_numbers_of_images() -> None:
    with pytest.raises(
        InputError, match=r"student.batch=by_ipc is known for 1, 10, 20, .* 100 images .* set student.batch"
    ):
        settle_student(preset("rded"), 250, 10)
    assert settle_student(preset("rded", batch=7), 250, 10).batch == 7


@pytest.mark.parametrize(
    ("network", "rate"),
    [
        ("resnet18_small", 1e-3),
        ("resnet101", 1e-3),
        ("convnet3", 1e-3),
        ("efficientnet_b0_small", 2e-3),
        ("mobilenet_v2", 2.5e-3),
        ("vgg11_bn_small", 5e-4),
        ("vit_b_16", 1e-4),
        ("swin_v2_t", 1e-4),
        ("alexnet", 1e-4),
    ],
)
def test_rdeds_rates(network: str, rate: float) -> None:
    assert settle_student(preset("rded", network=network), 100, 10).lr == rate


def test_rdeds_rates_name_an_unknown_network() -> None:
    with pytest.raises(InputError, match=r"no learning rate for 'densenet121'.* set student.lr"):
        settle_student(preset("rded", network="densenet121"), 100, 10)


def test_a_settled_student_has_numbers_alone_and_is_hashed_as_its_protocol() -> None:
    """So accuracies on sets of different sizes stay comparable by hash where the values agree."""
    given = preset("sre2l-cifar")
    config = settle_student(given, 300, 10)
    assert isinstance(config, SettledStudent)
    assert (config.batch, config.lr, config.training_steps, config.images_seen) == (128, 1e-3, 1200, 153600)
    assert protocol_hash(config) == protocol_hash(given)
    assert config.model_dump() == given.model_dump()
    assert settle_student(Student(steps=7, batch=50), 20, 10).images_seen == 140
    assert settle_student(config, 300, 10) == config


# -- values ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"steps": 5, "epochs": 5}, "give one of steps and epochs"),
        ({"steps": None}, "got neither"),
        ({"scale": [0.5, 0.2]}, "scale must be"),
        ({"schedule": "multistep"}, "needs milestones"),
        ({"milestones": [0.5]}, "multistep"),
        ({"schedule": "multistep", "milestones": [0.9, 0.1]}, "must rise"),
        ({"stretch": 0.5}, "greater than or equal to 1"),
    ],
)
def test_values_that_do_not_fit_together(values: dict[str, Any], text: str) -> None:
    with pytest.raises(ValidationError, match=text):
        Student.model_validate(values)


def test_epochs_alone_are_instead_of_the_houses_steps() -> None:
    assert (Student.model_validate({"epochs": 3}).steps, Student(epochs=3).epochs) == (None, 3)
    assert Student.model_validate(Student(epochs=3).model_dump(mode="json")) == Student(epochs=3)


# -- matching ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "passes", "first", "batch"),
    [
        ("dsa", 1001, 502, 256),
        ("mtt", 1001, 502, 256),
        ("dc", 301, 152, 256),
        ("cafe", 601, 302, 256),
        ("datadam", 1801, 902, 64),
    ],
)
@pytest.mark.parametrize("images", [100, 300])
def test_matched_sets_are_seen_in_one_pass_more_than_released_e_and_the_rate_falls_after_half(
    name: str, passes: int, first: int, batch: int, images: int
) -> None:
    """As evaluate_synset does with its E: the golden value is pass 502 for 1000, counted from 0."""
    config, batches = settle_student(preset(name), images, 10), -(-images // batch)
    assert (config.training_steps, config.batch) == (passes * batches, batch)
    rates = [learning_rate(config, step, config.training_steps, batches) for step in range(passes * batches)]
    assert rates[: first * batches] == first * batches * [0.01]
    assert rates[first * batches :] == pytest.approx((passes - first) * batches * [0.001])


def test_a_short_form_has_the_milestone_at_the_same_part() -> None:
    config = settle_student(preset("dsa", epochs=20), 100, 10)
    assert [learning_rate(config, step, 20, 1) for step in (10, 11)] == pytest.approx([0.01, 0.001])


def test_matching_presets_are_the_released_table() -> None:
    found = preset("dsa")
    assert (found.labels, found.optimizer, found.momentum, found.weight_decay) == ("hard", "sgd", 0.9, 5e-4)
    assert (found.pad, found.flip, found.mix, found.scale, found.decay_norms) == (0, 0, "none", None, True)
    assert found.siamese == ("color", "crop", "cutout", "flip", "scale", "rotate")
    assert found.network == preset("idc").network == "convnet"
    assert preset("dc").siamese is preset("cafe").siamese is None
    idc = preset("idc")
    assert (idc.siamese, idc.siamese_always) == (("crop", "scale", "rotate"), ("color",))
    assert (idc.mix, idc.mix_alpha, idc.mix_probability) == ("cutmix", 1, 0.5)
    assert protocol_text(found) == (
        "convnet, 1001 epochs in batches of 256, SGD 0.9 lr 0.01 wd 0.0005, multistep x0.1 after 0.501499 "
        "an epoch and momentum anew, shift 0 px, flip 0, Siamese color | crop | cutout | flip | scale | "
        "rotate, no mixing, hard labels, cross-entropy, fp32"
    )
    assert "flip 0.5, Siamese color, Siamese crop | scale | rotate, cutmix(1) at 0.5" in protocol_text(idc)
    assert len({protocol_hash(preset("dsa", **one)) for one in ({}, {"siamese": None}, {"lr": 0.02})}) == 3


def test_a_learned_rate_is_the_sets_own_and_has_the_protocols_hash() -> None:
    config = preset("mtt")
    own, control = settle_student(config, 100, 10, learned_lr=0.0213), settle_student(config, 100, 10)
    assert (own.peak_lr, control.peak_lr, settle_student(preset("dsa"), 100, 10).peak_lr) == (
        0.0213,
        0.01,
        0.01,
    )
    assert own.model_dump() == control.model_dump() == config.model_dump()
    assert protocol_hash(own) == protocol_hash(control) != protocol_hash(preset("dsa"))
    assert "lr learned with the images, else 0.01," in protocol_text(own)
    assert learning_rate(own, 0, 1001, 1) == 0.0213
    assert settle_student(own, 100, 10) == own
    for rate in (-0.001, 0.0, math.nan):
        with pytest.raises(
            InputError, match=r"learned with the images is .*, expected a positive number; set"
        ):
            settle_student(config, 100, 10, learned_lr=rate)


# -- recipes --------------------------------------------------------------------------------------


def write(folder: Path, student: str, dataset: str = "") -> str:
    (folder / "r.yaml").write_text(f"{dataset}\narms: {{a: {{method: deda}}}}\nstudent: {student}\n")
    return str(folder / "r.yaml")


def test_a_preset_lies_beneath_the_recipe_and_over_the_data_set(tmp_path: Path) -> None:
    file = write(tmp_path, "{protocol: sre2l-cifar, temperature: 7.0}", "dataset: cifar10")
    student = resolve(file, ["student.flip=0.25"]).recipe.student
    assert (student.epochs, student.steps, student.network) == (400, None, "resnet18_small")  # the preset
    assert (student.temperature, student.flip) == (7.0, 0.25)  # the recipe, the command line
    assert student.precision == "auto"  # the data set, of which the preset says nothing
    rows = {path: (value, origin, source) for path, value, origin, source in table(resolve(file))}
    assert rows["student.epochs"] == (400, "protocol sre2l-cifar", "code")
    assert rows["student.temperature"] == (7.0, file, "")


def test_a_preset_may_come_from_the_command_line(tmp_path: Path) -> None:
    file = write(tmp_path, "{protocol: sre2l-cifar}")
    student = resolve(file, ["student.protocol=rded", "student.batch=50"]).recipe.student
    assert (student.protocol, student.shuffle_patches, student.batch) == ("rded", 2, 50)
    assert student == preset("rded", batch=50)
    with pytest.raises(InputError, match="did you mean 'rded'"):
        resolve(file, ["student.protocol=rdet"])
    with pytest.raises(InputError, match="give one of steps and epochs"):
        resolve(file, ["student.steps=7", "student.epochs=3"])
    assert resolve(file, ["student.steps=7"]).recipe.student.epochs is None


def test_no_protocol_is_the_houses(tmp_path: Path) -> None:
    assert resolve(write(tmp_path, "{seeds: 2}")).recipe.student == Student(seeds=2)


def of_methods(folder: Path, methods: str, student: str = "{}", dataset: str = "") -> str:
    arms = ", ".join(f"a{place}: {{method: {name}}}" for place, name in enumerate(methods.split()))
    (folder / "own.yaml").write_text(f"{dataset}\narms: {{{arms}}}\nstudent: {student}\n")
    return str(folder / "own.yaml")


def test_a_recipe_that_names_no_protocol_has_the_one_that_the_methods_of_all_arms_declare(
    tmp_path: Path,
) -> None:
    found = resolve(of_methods(tmp_path, "mtt tesla mtt", "{epochs: 5}"))
    student, leaf = found.recipe.student, found.leaves["student.protocol"]
    assert (student.protocol, student.lr, student.labels, student.epochs) == ("mtt", "learned", "hard", 5)
    assert (leaf.value, leaf.origin, leaf.source, found.note) == ("mtt", "methods mtt, tesla", "code", "")
    assert resolve(of_methods(tmp_path, "mtt")).leaves["student.protocol"].origin == "method mtt"
    idc = resolve(of_methods(tmp_path, "idc", dataset="dataset: cifar100"))
    assert idc.recipe.student == resolve("cifar100-idc").recipe.student
    for named in (
        resolve(of_methods(tmp_path, "mtt", "{protocol: house}")),
        resolve(of_methods(tmp_path, "mtt"), ["student.protocol=house"]),
    ):
        assert (named.recipe.student, named.note) == (Student(), "")


def test_a_recipe_whose_methods_have_several_protocols_says_which(tmp_path: Path) -> None:
    file = of_methods(tmp_path, "mtt dm kip sre2l dm")
    found = resolve(file)
    assert found.recipe.student == Student()
    assert found.note == (
        "student.protocol is house for all arms, since their methods are evaluated under different ones: "
        "mtt (mtt), dsa (dm, kip), house (sre2l); student.protocol=NAME chooses one"
    )
    assert resolve(file, ["student.protocol=mtt"]).note == resolve("digits").note == ""
    of_tiny = resolve(of_methods(tmp_path, "sre2l deda gvbsm", dataset="dataset: tiny"))
    assert of_tiny.recipe.student.protocol == "sre2l-tiny"  # the data set's
    assert "is sre2l-tiny for all arms" in of_tiny.note
    assert "sre2l-tiny (sre2l, deda), gvbsm-tiny (gvbsm)" in of_tiny.note
    assert resolve(of_methods(tmp_path, "sre2l deda")).note == ""


def test_a_protocol_alone_takes_the_overrides_of_a_recipe() -> None:
    run = Student(seeds=2, batch=7).model_dump(mode="json")
    assert resolve_student(run) == Student(seeds=2, batch=7)
    assert resolve_student(run, "rded") == resolve_student({}, None, ["protocol=rded"]) == preset("rded")
    nested = resolve_student(run, None, ["randaugment.magnitude=5", "operations=1", "batch=8"])
    assert nested.randaugment is not None
    assert (nested.randaugment.magnitude, nested.randaugment.operations) == (5, 1)
    assert (nested.batch, nested.seeds) == (8, 2)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("stepps=3", "unknown key 'stepps' (did you mean 'steps'?)"),
        ("randaugment.magnitud=3", "unknown key 'randaugment.magnitud' (did you mean"),
        ("method.steps=3", "unknown key 'method.steps'"),
        ("steps", "must look like key=value"),
        ("steps=[", "the value '[' of student.steps is not valid YAML"),
        ("magnitude=11", "student.randaugment.magnitude: input should be less than or equal to 10, got 11"),
        ("student=3", "student: input should be"),
    ],
)
def test_bad_overrides_of_a_protocol_alone(override: str, expected: str) -> None:
    with pytest.raises(InputError, match=re.escape(expected)):
        resolve_student({}, None, [override])


def test_augment_none_leaves_no_augmentation_of_any_protocol() -> None:
    for name in PROTOCOLS:
        plain = resolve_student({}, name, ["augment=none"])
        assert {key: getattr(plain, key) for key in PLAIN} == PLAIN
        assert plain.model_dump() == {**resolve_student({}, name).model_dump(), **PLAIN, "augment": "none"}
    with pytest.raises(InputError, match=r"augment none leaves out flip, got 0\.5"):
        resolve_student({}, "rded", ["augment=none", "flip=0.5"])
    recipe = resolve("digits", ["student.augment=none"]).recipe
    assert (recipe.student.pad, recipe.student.flip, recipe.student.mix) == (0, 0, "none")
    assert "augment" not in as_plain(resolve("digits").recipe)["student"]  # type: ignore[operator]

"""Recipes: what is laid over what, shortened keys, errors, who set a value, and what the command line
shows."""

from __future__ import annotations

import contextlib
import io
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import fastdd
from fastdd.cli import main
from fastdd.config import Recipe, as_plain
from fastdd.config.sources import Sourced, parse_recipe
from fastdd.errors import InputError
from fastdd.methods import METHODS
from fastdd.recipes.presets import recipe_names, single_names
from fastdd.recipes.resolve import resolve, table
from fastdd.recipes.students import resolve_student

OWN_OVER_SHARED = """\
method: {steps: 11, lr: 0.3}
arms:
  plain: {method: deda}
  own: {method: deda, add: [dire], steps: 12, terms: {dire: {r_cd: !paper 0.7}}, batch: {slots: 3}}
"""
ADDED = """\
method: {steps: 11, lr: 0.3}
arms:
  many: {method: deda}
  one: {method: sre2l, steps: 12, lr: 0.4}
"""


def write(folder: Path, text: str) -> str:
    (folder / "own.yaml").write_text(text)
    return str(folder / "own.yaml")


def message(name: str, *overrides: str, add: tuple[str, ...] = ()) -> str:
    with pytest.raises(InputError) as caught:
        resolve(name, overrides, add)
    return str(caught.value)


def shown(*arguments: str) -> str:
    """What the command prints to a pipe."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        assert main(arguments) == 0
    return out.getvalue()


# -- what is laid over what -----------------------------------------------------------------------


@pytest.mark.parametrize("name", recipe_names())
def test_every_built_in_recipe_resolves(name: str) -> None:
    recipe = fastdd.resolve(name)
    assert recipe.name == name
    assert recipe.description
    assert recipe.arms
    again = Recipe.model_validate(yaml.safe_load(yaml.safe_dump(as_plain(recipe))))
    assert again == recipe


def test_the_tables_compare_what_the_single_recipes_make() -> None:
    arms = fastdd.resolve("cifar10-table").arms
    for name, arm in (("cifar10-sre2l", "sre2l"), ("cifar10-dire", "sre2l+dire"), ("cifar10-deda", "deda")):
        assert fastdd.resolve(name).arms[arm] == arms[arm]
    arms = fastdd.resolve("cifar10-methods").arms
    alone = {name: fastdd.resolve(f"cifar10-{name}").arms[name] for name in METHODS if name != "custom"}
    # The matching family has a table of its own, and what came after that table was measured is in neither.
    later = ("fadrm", "fadrmplus", "cim")
    through_teachers = {
        name: method for name, method in alone.items() if method.match is None and name not in later
    }
    for name, method in through_teachers.items():
        assert arms[name] == method.model_copy(update={"steps": min(method.steps, 400)})
    with_dire = {f"{name}+dire" for name in through_teachers.keys() - {"rded", "deda-paper"}}
    assert {name for name in arms if name.endswith("+dire")} == with_dire


def test_resolve_may_be_called_twice() -> None:
    assert fastdd.resolve("digits") == fastdd.resolve("digits")


def test_what_is_laid_over_later_wins(tmp_path: Path) -> None:
    name = write(tmp_path, OWN_OVER_SHARED)

    def arm(arm: str, *overrides: str, add: tuple[str, ...] = ()) -> tuple[object, ...]:
        method = resolve(name, overrides, add).recipe.arms[arm]
        return (
            method.betas,
            method.lr,
            method.steps,
            method.batch.slots,
            method.terms.dire and method.terms.dire.r_cd,
        )

    # betas: method over the type's default; lr and steps: the section `method` over the method's
    assert arm("plain") == ((0.5, 0.9), 0.3, 11, "all", None)
    # the arm's own section over `add` and over `method`
    assert arm("own") == ((0.5, 0.9), 0.3, 12, 3, 0.7)
    # --add over the arm's section, an override over --add; only a batch of single slots grows
    name = write(tmp_path, ADDED)
    assert arm("one+dire", add=("dire",)) == ((0.5, 0.9), 0.4, 12, 10, 0.1)
    assert arm("one+dire", "method.slots=4", "method.steps=13", add=("dire",)) == (
        (0.5, 0.9),
        0.4,
        13,
        4,
        0.1,
    )
    assert arm("many+dire", add=("dire",))[3:] == ("all", 0.1)


def test_nothing_is_added_twice(tmp_path: Path) -> None:
    arms = resolve(write(tmp_path, OWN_OVER_SHARED), add=["dire", "dire"]).recipe.arms
    assert list(arms) == ["plain+dire", "own"]
    assert arms["own"] == resolve(write(tmp_path, OWN_OVER_SHARED)).recipe.arms["own"]
    three = str(Path(__file__).parent / "three_arms.yaml")
    assert list(fastdd.resolve(three, add=["dire"]).arms) == ["sre2l+dire", "deda+dire"]


def test_dire_weighs_as_the_methods_batch_norm_statistics_do(capsys: pytest.CaptureFixture[str]) -> None:
    def added(name: str, *overrides: str) -> float:
        return (
            fastdd.resolve(name, overrides, ["dire"]).arms[f"{name.partition('-')[2]}+dire"].terms.dire.weight
        )

    assert added("cifar10-sre2l") == 0.01
    assert added("tiny-cda") == 0.05
    assert added("imagenet1k-edc") == 0.1  # the statistics of convolutions, which include BatchNorm's
    assert added("cifar10-sre2l", "method.terms.bn.weight=0.3") == 0.3
    assert added("cifar10-sre2l", "method.terms.dire.weight=1") == 1
    assert added("cifar10-deda") == added("cifar10-dm") == 1  # neither matches BatchNorm statistics
    assert shown("show", "cifar10-sre2l", "--add", "dire")
    told = capsys.readouterr().err.splitlines()[-1]
    assert told == (
        "arms.sre2l+dire: DiRe's terms have the weights 0.001 (CD), 0.001 (CDM), 1e-05 (EDM); in parts of "
        "that of the BatchNorm statistics, 0.01: 0.1, 0.1, 0.001"
    )
    assert "did you mean 'terms.dire.r_cd'" in message("cifar10-dire", "method.terms.dire.r_cos=1")


def test_readings_and_weights_of_dire_come_from_one_source() -> None:
    leaves = resolve("cifar100-dire").leaves
    keys = ("weight", "r_cd", "r_cdm", "r_edm", "reading")
    released = [leaves[f"arms.sre2l+dire.terms.dire.{key}"] for key in keys]
    assert [leaf.value for leaf in released] == [1.0, 0.1, 0.1, 0.001, "code"]
    assert {leaf.source for leaf in released} == {"code"}
    for name, add in (("cifar100-sre2l", ["dire"]), ("tiny-dire", [])):
        leaves = resolve(name, (), add).leaves
        assert {leaves[f"arms.sre2l+dire.terms.dire.{key}"].source for key in keys} == {"ours"}


def test_an_addition_that_changes_the_batch_brings_the_control_with_that_batch(tmp_path: Path) -> None:
    arms = resolve("cifar10-cda", add=["dire"]).recipe.arms
    assert list(arms) == ["cda-as-dire", "cda+dire"]
    control, added, alone = arms["cda-as-dire"], arms["cda+dire"], fastdd.resolve("cifar10-cda").arms["cda"]
    assert (control.title, added.title) == ("CDA at DiRe's batch", "CDA + DiRe")
    assert control.batch == added.batch != alone.batch
    assert control.model_copy(update={"title": alone.title, "batch": alone.batch}) == alone
    for name in ("cifar10-deda", "cifar10-dm"):  # a class's batch, and a method that matches
        assert len(resolve(name, add=["dire"]).recipe.arms) == 1
    # The recipe's own arms with the terms stand; a plain arm of a control's name is renamed, one with the
    # terms is in its way.
    plain, own = "{method: cda}", "{method: cda, add: [dire], lr: 0.3}"
    name = write(tmp_path, f"arms: {{a: {plain}, a-as-dire: {plain}, a+dire: {own}, b: {plain}}}")
    arms = resolve(name, add=["dire", "dire"]).recipe.arms
    wanted = ["a+dire", "a-as-dire-as-dire", "a-as-dire+dire", "b-as-dire", "b+dire"]
    assert list(arms) == wanted
    assert arms["a+dire"].lr == 0.3
    name = write(tmp_path, f"arms: {{a: {plain}, a-as-dire: {own}}}")
    expected = "--add dire makes a control of the arm a and calls it a-as-dire, which is an arm of the recipe"
    assert expected in message(name, add=("dire",))


def test_a_length_of_students_replaces_one_of_the_other_kind(tmp_path: Path) -> None:
    name = write(tmp_path, OWN_OVER_SHARED + "\nstudent: {protocol: dsa}\nstudents: {soft: {steps: 7}}")
    assert (fastdd.resolve(name).student.steps, fastdd.resolve(name).student.epochs) == (None, 1001)
    recipe = fastdd.resolve(name, ["student.steps=5", "students.soft.epochs=3"])
    assert (recipe.student.steps, recipe.student.epochs) == (5, None)
    assert (recipe.students["soft"].steps, recipe.students["soft"].epochs) == (None, 3)
    assert resolve_student({}, "dsa", ["steps=5"]).epochs is None
    assert "give one of steps and epochs" in message(name, "student.steps=5", "student.epochs=3")
    assert fastdd.resolve("digits", ["protocol=sre2l-cifar"]).student.steps == 200  # the recipe's own stays


def test_a_method_is_over_the_defaults_and_terms_are_merged(tmp_path: Path) -> None:
    deda = resolve(write(tmp_path, "arms: {a: {method: deda, terms: {gaussian: {gamma: 7}}}}")).recipe.arms[
        "a"
    ]
    assert deda.terms.gaussian is not None
    assert (deda.terms.gaussian.gamma, deda.terms.gaussian.layers) == (7, "blocks")
    assert deda.terms.covariance is not None
    assert deda.batch.classes == 1
    absent = resolve(write(tmp_path, "arms: {a: {method: deda, terms: {covariance: null}}}")).recipe.arms["a"]
    assert absent.terms.covariance is None
    assert absent.terms.gaussian is not None


def test_the_papers_numbers(tmp_path: Path) -> None:
    arms = resolve(write(tmp_path, "arms: {deda: {method: deda}, sre2l: {method: sre2l}}")).recipe.arms
    gaussian, covariance = arms["deda"].terms.gaussian, arms["deda"].terms.covariance
    assert gaussian is not None
    assert covariance is not None
    assert (gaussian.gamma, covariance.lambda_var, covariance.lambda_cov) == (50.0, 0.2, 4.0)
    assert arms["sre2l"].terms.bn is not None
    assert arms["sre2l"].terms.bn.first == 10.0
    assert arms["sre2l"].betas == (0.5, 0.9)


def test_the_title_tells_what_was_added(tiny: Path) -> None:
    assert resolve(str(tiny), add=["dire"]).recipe.arms["deda+dire"].title == "DEDA + DiRe"


def test_origin_and_source_of_each_value(tmp_path: Path) -> None:
    rows = {
        path: row
        for path, *row in table(resolve(write(tmp_path, ADDED), ["ipc=3", "method.gamma=7"], ["dire"]))
    }
    origin = str(tmp_path / "own.yaml")
    assert rows["student.lr"] == [1e-3, "default", ""]
    assert rows["ipc"] == [3, "command line", ""]
    assert rows["arms.many+dire.lr"] == [0.3, origin, ""]
    assert rows["arms.many+dire.betas"] == [[0.5, 0.9], "method deda", "code"]
    assert rows["arms.many+dire.terms.covariance.lambda_var"] == [0.2, "method deda", "paper"]
    assert rows["arms.many+dire.terms.gaussian.layers"][1:] == ["method deda", "ours"]
    assert rows["arms.many+dire.terms.gaussian.gamma"] == [7, "command line", ""]
    assert rows["arms.one+dire.terms.dire.r_cd"] == [0.1, "--add dire", "ours"]
    assert rows["arms.one+dire.terms.dire.weight"] == [0.01, "--add dire", "ours"]
    assert rows["arms.one-as-dire.batch.slots"] == [10, "--add dire", "code"]
    assert rows["arms.many+dire.terms.bn"] == [None, "default", ""]
    own = {path: row for path, *row in table(resolve(write(tmp_path, OWN_OVER_SHARED)))}
    assert own["arms.own.terms.dire.r_cd"] == [0.7, origin, "paper"]
    assert own["arms.own.terms.dire.r_edm"] == [0.001, "add dire", "ours"]


# -- keys -----------------------------------------------------------------------------------------


def test_a_key_may_be_shortened_to_its_end(tiny: Path) -> None:
    recipe = resolve(
        str(tiny),
        [
            "minimum_accuracy=0.3",
            "student.mix=none",
            "on_error=skip",
            "gamma=7",
            "method.bn.first=2",
            "terms.bn.weight=3",
        ],
    ).recipe
    assert (recipe.teacher.minimum_accuracy, recipe.student.mix, recipe.data.on_error) == (
        0.3,
        "none",
        "skip",
    )
    gaussian, bn = recipe.arms["deda"].terms.gaussian, recipe.arms["sre2l"].terms.bn
    assert gaussian is not None
    assert bn is not None
    assert (gaussian.gamma, bn.first, bn.weight) == (7, 2, 3)
    # an option of a term goes to the arms that have the term
    assert recipe.arms["deda"].terms.bn is None
    assert recipe.arms["sre2l"].terms.gaussian is None


def test_one_arm_alone(tiny: Path) -> None:
    arms = resolve(str(tiny), ["arms.sre2l+dire.lr=0.7", "arms.deda.gamma=1"]).recipe.arms
    assert (arms["sre2l+dire"].lr, arms["sre2l"].lr) == (0.7, 0.25)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("lr=1", ["'lr'", "ambiguous", "teacher.lr", "student.lr", "method.lr"]),
        ("steps=5", ["'steps'", "ambiguous", "student.steps", "method.steps"]),
        ("method.weight=1", ["'method.weight'", "ambiguous", "terms.ce.weight", "terms.bn.weight"]),
        ("epohcs=3", ["unknown key 'epohcs'", "did you mean 'epochs'"]),
        ("metod.steps=3", ["unknown key 'metod.steps'", "did you mean"]),
        ("method.stps=3", ["unknown key 'method.stps'", "did you mean 'steps'"]),
        ("student.optimiser=sgd", ["unknown key 'student.optimiser'", "did you mean 'student.optimizer'"]),
        ("optimiser=sgd", ["unknown key 'optimiser'", "did you mean 'optimizer'"]),
        ("student={lr: 0.1, tempreature: 2}", ["student.tempreature", "did you mean 'temperature'"]),
        ("method.terms.bn={wieght: 2}", ["terms.bn.wieght", "did you mean 'weight'"]),
        ("arms.srel.lr=1", ["unknown arm 'srel'", "did you mean 'sre2l'"]),
        ("arms=3", ["'arms' is a section of sre2l, ", "such as arms.sre2l.steps="]),
        ("arms.deda=null", ["'arms.deda'"]),
        ("method=3", ["'method'"]),
        ("=3", ["unknown key ''"]),
        ("ipc", ["'ipc'", "key=value"]),
        ("method.lr=[", ["'['", "not valid YAML: line 1"]),
        ("method.lr=!paper 3", ["lr: input should be a valid number, got '!paper 3'"]),
    ],
)
def test_bad_keys(tiny: Path, override: str, expected: list[str]) -> None:
    text = message(str(tiny), override)
    assert all(part in text for part in expected), text


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("method.lr=-1", ["arms.deda.lr", "greater than 0", "-1"]),
        ("method.lr=.nan", ["lr", "nan"]),
        ("teacher.lr=.inf", ["teacher.lr", "finite", "inf"]),
        ("method.steps=1.5", ["steps", "1.5"]),
        ("ipc=0", ["ipc", "greater than or equal to 1", "got 0"]),
        ("ipc=ten", ["ipc", "integer", "'ten'"]),
        ("ipc=[1]", ["ipc", "[1]"]),
        ("seed=-1", ["seed", "-1"]),
        ("data=null", ["data", "got null"]),
        ("data.channels=2", ["data.channels", "1 or 3", "got 2"]),
        ("student.mix=mixip", ["student.mix", "'mixup'", "'mixip'"]),
        ("student.flip=1.5", ["student.flip", "1.5"]),
        ("method.gaussian.layers=foo", ["gaussian.layers: expected", "bn_inputs", "'foo'"]),
        ("method.batch.slots=0", ["batch.slots: ", "greater than or equal to 1 or 'all'", "got 0"]),
        ("student.batch=few", ["student.batch: ", "valid integer", "'by_ipc' or 'by_images', got 'few'"]),
        ("recover.compile=maybe", ["recover.compile: ", "boolean", "or 'auto', got 'maybe'"]),
        ("method.betas=[0.5, 1.0]", ["betas", "less than 1", "1.0"]),
        ("method.roll=[4, 0]", ["augment", "low <= high", "[4, 0]"]),
        ("method.roll=[1, 2, 3]", ["augment.roll", "[1, 2, 3]"]),
        ("method.scale=[0.9, 0.1]", ["augment", "low <= high", "[0.9, 0.1]"]),
        ("method.scale=[0.0, 0.1]", ["augment", "0 < low", "[0.0, 0.1]"]),
        ("teacher.mean=[0.1, 0.2]", ["teacher.mean", "2 values", "1 channels"]),
        ("arms.sre2l.terms={ce: null, bn: null}", ["arms.sre2l", "terms are all null", "steps to 0"]),
    ],
)
def test_bad_values(tiny: Path, override: str, expected: list[str]) -> None:
    text = message(str(tiny), override)
    assert all(part in text for part in expected), text
    assert "constrained" not in text


def test_steps_zero_needs_no_terms(tmp_path: Path) -> None:
    recipe = resolve(write(tmp_path, "arms: {a: {steps: 0, init: real, terms: {ce: null}}}")).recipe
    assert recipe.arms["a"].steps == 0


# -- files ----------------------------------------------------------------------------------------


def test_unknown_recipe_and_additions(tmp_path: Path) -> None:
    assert "unknown recipe 'digts' (did you mean 'digits'?)" in message("digts")
    assert "nowhere.yaml does not exist" in message(str(tmp_path / "nowhere.yaml"))
    assert "unknown addition 'dyre' (did you mean 'dire'?)" in message("digits", add=("dyre",))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("arms: [", ["not valid YAML", "line 1"]),
        ("arms: {a: {method: deda}}\nipc: 1\nipc: 2", ["written twice", "ipc"]),
        ("arms: {a: {method: deda, lr: 1, lr: 2}}", ["written twice", "lr"]),
        ("", ["must be a mapping", "arms"]),
        ("3", ["must be a mapping", "arms"]),
        ("ipc: 3", ["arms"]),
        ("arms: {a: deda}", ["arms.a", "'deda'"]),
        ("arms: {a: {method: dedda}}", ["unknown method 'dedda'", "did you mean 'deda'"]),
        ("arms: {a: {method: [deda]}}", ["arms.a", "['deda']"]),
        ("arms: {a: {method: 3}}", ["arms.a", "3"]),
        ("arms: {a: {method: !paper deda}}", ["arms.a"]),
        ("arms: {a: {method: deda, add: dire}}", ["arms.a.add", "list", "'dire'"]),
        ("arms: {a: {method: deda, add: 5}}", ["arms.a.add", "5"]),
        ("arms: {a: {method: deda, add: [dyre]}}", ["'dyre'", "did you mean 'dire'"]),
        ("arms: {a: {method: deda, 3: 4}}", ["arms.a.3"]),
        ("method:\narms: {a: {method: deda}}", ["`method` must be a mapping", "got null"]),
        ("method: 3\narms: {a: {method: deda}}", ["`method` must be a mapping", "3"]),
        ("arms: {random: {method: deda}}", ["arms.random", "built-in control"]),
        ("arms: {real: {method: deda}}", ["arms.real", "give the arm another name"]),
        ("arms: {../a: {method: deda}}", ["'../a'", "folder name"]),
        ("arms: {a: {method: deda}}\nstudent: {optimiser: sgd}", ["student.optimiser", "'optimizer'"]),
        ("arms: {int: {method: deda, lr: x}}", ["arms.int.lr: input should be a valid number"]),
        ("arms: {a: {method: deda}}\nstudnet: {lr: 1}", ["unknown key studnet", "did you mean 'student'"]),
        ("arms: {a: {method: deda, term: {}}}", ["unknown key arms.a.term", "did you mean 'terms'"]),
        ("arms: {a: {method: deda, lr: !paper {a: 1}}}", ["!paper", "mapping"]),
        ("arms: {a: {method: deda, lr: !article 3}}", ["!article"]),
        ("arms: {a: {lr: !!python/object/apply:os.getcwd []}}", ["not valid YAML", "python"]),
    ],
)
def test_bad_files(tmp_path: Path, text: str, expected: list[str]) -> None:
    got = message(write(tmp_path, text))
    assert "own.yaml" in got or "did you mean" in got
    assert all(part in got for part in expected), got


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe\x00\x80")
    assert "b.yaml is not text" in message(str(tmp_path / "b.yaml"))


def test_sourced_tags() -> None:
    text = "a: !paper 0.25\nb: !code [1, 2]\nc: !ours all\nd: !paper null\ne: !code true\nf: 1"
    got = parse_recipe(text, "text")
    assert isinstance(got, dict)
    assert got["a"] == Sourced(0.25, "paper")
    assert got["b"] == Sourced([1, 2], "code")
    assert got["c"] == Sourced("all", "ours")
    assert got["d"] == Sourced(None, "paper")
    assert got["e"] == Sourced(True, "code")
    assert got["f"] == 1


# -- the command line -----------------------------------------------------------------------------


def test_show_names_origin_and_source(tiny: Path) -> None:
    text = shown("show", str(tiny), "ipc=7", "--add", "dire", "method.gamma=3")
    rows = {
        fields[0]: fields[1:] for line in text.splitlines() if (fields := re.split(r" {2,}", line.strip()))
    }
    assert rows["ipc"] == ["7", "command line"]
    assert rows["arms.deda+dire.terms.covariance.lambda_cov"] == ["4.0", "method deda", "paper"]
    assert rows["arms.deda+dire.terms.gaussian.gamma"] == ["3.0", "command line"]
    assert rows["arms.deda+dire.terms.dire.r_cd"] == ["0.1", "--add dire", "ours"]
    assert rows["student.temperature"] == ["30.0", "default"]
    assert rows["arms.deda+dire.terms.bn"] == ["null", "default"]


def test_recipes_lists_those_in_files() -> None:
    text = shown("recipes")
    for name in single_names():
        assert re.search(rf"^ *{re.escape(name)} .*\w", text, re.M), text


@pytest.mark.parametrize("command", [["--help"], ["recipes"]])
def test_light_commands_do_not_import_torch(command: list[str]) -> None:
    program = (
        "import sys, runpy\n"
        f"sys.argv = ['fastdd', *{command!r}]\n"
        "try:\n    runpy.run_module('fastdd', run_name='__main__')\n"
        "except SystemExit as end:\n    assert not end.code, end.code\n"
        "assert 'torch' not in sys.modules and 'numpy' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "digits" in done.stdout or "usage: fastdd" in done.stdout

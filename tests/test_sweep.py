"""Sweeps: a grid becomes arms and runs, and each point is what the same values give alone."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from test_distributed import torchrun, wait
from test_run import kill_when, results

import fastdd
from fastdd import cli
from fastdd.errors import InputError
from fastdd.grid import Grid, expand, parse_grid
from fastdd.recipe import Recipe, as_plain
from fastdd.recipe.sweep import folder_name, shown, tails
from fastdd.sweep import sweep

SMALL = """\
ipc: 2
data: {root: digits, channels: 1}
teacher: {network: resnet8, mean: [0.305], std: [0.376], epochs: 1, batch: 128, lr: 0.1, pad: 1, flip: 0.0}
method: {steps: 3, augment: {roll: [-1, 1]}}
arms: {deda: {method: deda}, sre2l: {method: sre2l}}
student: {network: resnet8, steps: 2, batch: 20, pad: 1, evaluations: 1}
"""
GAMMA = "method.terms.gaussian.gamma"


def grid(*texts: str, recipe: str = "digits", **rest: list[str]) -> Grid:
    return expand(recipe, [parse_grid(text) for text in texts], **rest)


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished sweep, made by one command with one thread; beside it the recipe and ``stdout``."""
    folder = tmp_path_factory.mktemp("swept")
    (folder / "small.yaml").write_text(SMALL)
    command = [sys.executable, "-m", "fastdd", "sweep", str(folder / "small.yaml"), "--grid", "method.gamma=0,50",
               "--out", str(folder / "out"), "--seeds", "1"]  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (folder / "stdout").write_text(done.stdout)
    return folder / "out"


# -- the grid ----------------------------------------------------------------------------------------


def test_every_point_is_what_its_values_give_alone() -> None:
    (run,) = grid("method.gamma=0,10", "method.augment.scale=[0.5,1],null").runs
    assert (run.folder, run.at) == ("", {})
    assert list(run.recipe.arms) == [
        "sre2l-scale-0_5_1", "sre2l-scale-null",
        "deda-gamma-0-scale-0_5_1", "deda-gamma-0-scale-null", "deda-gamma-10-scale-0_5_1", "deda-gamma-10-scale-null",
        "sre2l+dire-scale-0_5_1", "sre2l+dire-scale-null",
    ]  # fmt: skip
    for arm, gamma, scale in (("deda-gamma-10-scale-0_5_1", 10, "[0.5, 1]"), ("deda-gamma-0-scale-null", 0, "null")):
        alone = fastdd.resolve("digits", [f"method.gamma={gamma}", f"method.augment.scale={scale}"]).arms["deda"]
        title = f"DEDA, gamma = {gamma}, scale = {scale}"
        assert run.recipe.arms[arm] == alone.model_copy(update={"title": title})
    point = run.recipe.sweep.points["deda-gamma-10-scale-0_5_1"]
    assert (point.of, point.title, point.at) == ("deda", "DEDA", {GAMMA: 10.0, "method.augment.scale": [0.5, 1.0]})
    assert run.recipe.sweep.keys == (GAMMA, "method.augment.scale")


def test_arms_that_a_key_does_not_concern_stay_as_they_are() -> None:
    (run,) = grid("arms.deda+dire.gamma=0,10", "terms.dire.r_cos=0.2", add=["dire"]).runs
    assert list(run.recipe.arms) == [
        "sre2l+dire-r_cos-0_2",
        "deda+dire-gamma-0-r_cos-0_2",
        "deda+dire-gamma-10-r_cos-0_2",
    ]
    (run,) = grid("method.gamma=0,10").runs
    assert list(run.recipe.arms) == ["sre2l", "deda-gamma-0", "deda-gamma-10", "sre2l+dire"]
    assert run.recipe.arms["sre2l"] == fastdd.resolve("digits").arms["sre2l"]
    assert run.recipe.sweep.points.keys() == {"deda-gamma-0", "deda-gamma-10"}


def test_keys_of_the_run_make_runs() -> None:
    found = grid("method.gamma=0,10", "ipc=1,2", "student.lr=1e-3")
    assert found.keys == (GAMMA, "ipc", "student.lr")
    assert [run.folder for run in found.runs] == ["ipc-1-lr-0_001", "ipc-2-lr-0_001"]
    assert [run.at for run in found.runs] == [{"ipc": n, "student.lr": 0.001} for n in (1, 2)]
    assert [run.recipe.ipc for run in found.runs] == [1, 2]
    assert all("deda-gamma-10" in run.recipe.arms for run in found.runs)
    (run,) = grid("ipc=3").runs
    assert (run.folder, run.recipe) == ("ipc-3", fastdd.resolve("digits", ["ipc=3"]))


def test_the_grid_goes_over_the_overrides() -> None:
    (run,) = grid("method.gamma=7", overrides=["arms.deda.gamma=3", "method.steps=5"]).runs
    method = run.recipe.arms["deda-gamma-7"]
    assert method.terms.gaussian is not None
    assert (method.terms.gaussian.gamma, method.steps) == (7, 5)


def test_arms_of_one_title_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "two.yaml").write_text(SMALL.replace("sre2l: {method: sre2l}", "deda2: {method: deda, lr: 0.5}"))
    (run,) = grid("method.gamma=1", recipe=str(tmp_path / "two.yaml")).runs
    assert [point.title for point in run.recipe.sweep.points.values()] == ["DEDA (deda)", "DEDA (deda2)"]


def test_a_recipe_without_a_sweep_is_saved_as_before() -> None:
    plain = as_plain(fastdd.resolve("digits"))
    assert "sweep" not in plain
    (run,) = grid("method.gamma=1").runs
    assert Recipe.model_validate(yaml.safe_load(yaml.safe_dump(as_plain(run.recipe)))) == run.recipe


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["method.gama=1,2"], "unknown key 'method.gama' .did you mean 'gamma'"),
        (["method.gamma=1", "arms.deda.gamma=3"], "both set arms.deda.terms.gaussian.gamma; use one"),
        (["ipc=1", "ipc=2"], "--grid ipc and --grid ipc both set ipc"),
        (["terms.dire=null,{}", "terms.dire.r_cos=1"], "--grid terms.dire.r_cos and --grid terms.dire both set"),
        (["method.gamma="], "has no values"),
        (["method.gamma=[1"], "is no list of YAML values"),
        (["method.gamma"], "must look like KEY=VALUE"),
        (["method.gamma=1,2,1.0"], "has the value 1 twice"),
        (["method.steps=1,few"], r"arms\.deda\.steps: input should be a valid integer.*'few'"),
        (["ipc=1,0"], "ipc: input should be greater than or equal to 1, got 0"),
        (["lr=1"], "'lr' is ambiguous"),
        (["sweep.keys=a"], "unknown key 'sweep.keys'"),
        (["method.terms.bn=null", "terms.conv={patch: 2},{patch: 4}"], "the sweep of digits: a run has one bank"),
        ([f"method.steps={','.join(map(str, range(40)))}", f"seed={','.join(map(str, range(26)))}"],
         "the grid has 1040 points, at most 1000"),
        ([], "a sweep needs a grid"),
    ],
)  # fmt: skip
def test_bad_grids(texts: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        grid(*texts)


def test_names_and_values_as_text() -> None:
    keys = ["method.lr", "student.lr", "method.terms.gaussian.gamma", "lr"]
    assert tails(keys) == {"method.lr": "method.lr", "student.lr": "student.lr", keys[2]: "gamma", "lr": "lr"}
    values = [0.0, 10, 1e-5, -1, True, None, "noise", [0.08, 1.0], {"a": [1.5]}]
    texts = ["0", "10", "1e-05", "-1", "true", "null", "noise", "[0.08, 1]", "{a: [1.5]}"]
    assert [shown(value) for value in values] == texts
    assert folder_name({"a.b": 0.5, "c": [-1, 1]}, {"a.b": "b", "c": "c"}) == "b-0_5-c--1_1"


# -- runs --------------------------------------------------------------------------------------------


def test_a_sweep_of_a_method_is_one_run(swept: Path) -> None:
    metrics = json.loads((swept / "metrics.json").read_text())
    content = json.loads((swept / "sweep.json").read_text())
    assert list(metrics["arms"]) == ["random", "deda-gamma-0", "deda-gamma-50", "sre2l"]
    assert (content["recipe"], content["keys"]) == ("small", [GAMMA])
    (run,) = content["runs"]
    assert (run["folder"], run["at"], run["protocol"]["seeds"]) == ("", {}, 1)
    for arm, values in {**run["arms"], "random": run["control"]}.items():
        assert {key: metrics["arms"][arm][key] for key in ("last", "best", "coverage", "vendi", "cosine")} == {
            key: values[key] for key in ("last", "best", "coverage", "vendi", "cosine")
        }
    assert [arm["at"] for arm in run["arms"].values()] == [{GAMMA: 0.0}, {GAMMA: 50.0}, {}]
    units = [json.loads((swept / f"recover/deda-gamma-{g}/unit_00000.json").read_text())["losses"] for g in (0, 50)]
    assert units[0][0]["gaussian"] < units[1][0]["gaussian"]  # the same images, another weight on the covariances
    saved = fastdd.resolve(str(swept / "recipe.yaml"))
    (expanded,) = grid("method.gamma=0,50", recipe=str(swept.parent / "small.yaml"), overrides=["student.seeds=1"]).runs
    assert saved.arms == expanded.recipe.arms
    assert saved.sweep == expanded.recipe.sweep


def test_the_table(swept: Path) -> None:
    lines = (swept.parent / "stdout").read_text().splitlines()
    assert lines[0].split()[:3] == ["gamma", "last", "%"]
    control, first, second, other = (line.split() for line in lines[1:5])
    values = json.loads((swept / "sweep.json").read_text())["runs"][0]["arms"]["deda-gamma-50"]
    assert control[:3] == ["random", "real", "images"]
    assert [first[:2], other[0]] == [["DEDA", "0"], "SRe2L"]
    assert second[:3] == ["DEDA", "50", f"{100 * values['last'][0]:.1f}"]
    assert second[-1] == f"{values['cosine']:.3f}"


def test_killed_and_continued_it_ends_with_the_same_bytes(
    swept: Path, tmp_path: Path, fastdd_process: Callable[..., subprocess.Popen[str]], one_thread: None
) -> None:
    recipe = swept.parent / "small.yaml"
    out = tmp_path / "out"
    command = ("sweep", recipe, "--grid", "method.gamma=0,50", "--seeds", "1", "--out", out)
    kill_when(fastdd_process(*command), out / "recover" / "deda-gamma-50" / "unit_00000.json")
    sweep(str(recipe), ["method.gamma=0,50"], out, seeds=1)
    assert results(out) == results(swept)
    with pytest.raises(InputError, match="holds a run of another recipe"):
        sweep(str(recipe), ["method.gamma=0,51"], out, seeds=1)


def test_several_runs(swept: Path, tmp_path: Path, one_thread: None) -> None:
    recipe, out = str(swept.parent / "small.yaml"), tmp_path / "out"
    content = sweep(recipe, ["ipc=1,2", "method.gamma=0,50"], out, seeds=1)
    assert [run["folder"] for run in content["runs"]] == ["ipc-1", "ipc-2"]
    assert [run["at"] for run in content["runs"]] == [{"ipc": 1}, {"ipc": 2}]
    # the sweep over gamma alone has two images a class, as the second run has
    others = {"sweep.json", "sweep.svg", "report.html"}
    assert {k: v for k, v in results(swept).items() if k not in others} == results(out / "ipc-2")
    assert content["runs"][1] | {"folder": "", "at": {}} == json.loads((swept / "sweep.json").read_text())["runs"][0]
    before = {
        path: path.stat().st_mtime_ns
        for path in out.rglob("*.json")
        if path.name not in ("manifest.json", "sweep.json")
    }
    assert sweep(recipe, ["ipc=1,2", "method.gamma=0,50"], out, seeds=1) == content
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_bad_run_is_refused_before_the_first_begins(swept: Path, tmp_path: Path) -> None:
    recipe = str(swept.parent / "small.yaml")
    with pytest.raises(InputError, match=r"student\.network"):
        sweep(recipe, ["student.network=resnet8,resnet9"], tmp_path / "out")
    assert not list((tmp_path / "out").rglob("teacher.safetensors"))
    shutil.copytree(swept, tmp_path / "one")
    with pytest.raises(InputError, match="is the folder of one run, but this sweep has several"):
        sweep(recipe, ["ipc=1,2"], tmp_path / "one")
    with pytest.raises(InputError, match=r"student\.seeds: input should be greater"):
        sweep(recipe, ["ipc=1,2"], tmp_path / "two", seeds=0)


def test_bad_input_on_the_command_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert cli.main(["sweep", "digits", "--grid", "method.gama=1", "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.startswith("error: unknown key 'method.gama'")
    assert not (tmp_path / "out").exists()


def test_processes_share_every_run_of_a_sweep(pets: Path, pets_recipe: Callable[[Path], Path], tmp_path: Path) -> None:
    recipe = pets_recipe(pets)
    command = ("sweep", recipe, "--grid", "seed=0,1", "--out")
    wait(torchrun(*command, tmp_path / "two"))
    content = json.loads((tmp_path / "two" / "sweep.json").read_text())
    assert [len(run["arms"]) for run in content["runs"]] == [2, 2]
    assert all(len(run["arms"]["deda"]["last"]) == 1 for run in content["runs"])

"""Sweeps: a grid becomes arms and runs, and each point is what the same values give alone."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from forked import Program, together
from test_run import content, kill_when, results

import fastdd
from fastdd import cli
from fastdd.config import Recipe, as_plain
from fastdd.config.naming import folder_name, short_keys, value_text
from fastdd.errors import InputError
from fastdd.recipes.grid import Grid, expand, parse_grid
from fastdd.runs.sweep import sweep

GAMMA = "method.terms.gaussian.gamma"


RECIPE = str(Path(__file__).parent / "three_arms.yaml")


def grid(*texts: str, recipe: str = RECIPE, **rest: list[str]) -> Grid:
    return expand(recipe, [parse_grid(text) for text in texts], **rest)


@pytest.fixture
def recipe(pets: Path, pets_recipe: Callable[[Path], Path]) -> str:
    """DEDA and SRe2L on the pets: three images a class, four steps, one student a set."""
    return str(pets_recipe(pets))


# -- the grid ----------------------------------------------------------------------------------------


def test_every_point_is_what_its_values_give_alone() -> None:
    (run,) = grid("method.gamma=0,10", "method.augment.scale=[0.5,1],null").runs
    assert (run.folder, run.at) == ("", {})
    assert list(run.recipe.arms) == [
        "sre2l-scale-0_5_1",
        "sre2l-scale-null",
        "deda-gamma-0-scale-0_5_1",
        "deda-gamma-0-scale-null",
        "deda-gamma-10-scale-0_5_1",
        "deda-gamma-10-scale-null",
        "sre2l+dire-scale-0_5_1",
        "sre2l+dire-scale-null",
    ]
    for arm, gamma, scale in (
        ("deda-gamma-10-scale-0_5_1", 10, "[0.5, 1]"),
        ("deda-gamma-0-scale-null", 0, "null"),
    ):
        alone = fastdd.resolve(RECIPE, [f"method.gamma={gamma}", f"method.augment.scale={scale}"]).arms[
            "deda"
        ]
        title = f"DEDA, gamma = {gamma}, scale = {scale}"
        assert run.recipe.arms[arm] == alone.model_copy(update={"title": title})
    point = run.recipe.sweep.points["deda-gamma-10-scale-0_5_1"]
    assert (point.of, point.title, point.at) == (
        "deda",
        "DEDA",
        {GAMMA: 10.0, "method.augment.scale": [0.5, 1.0]},
    )
    assert run.recipe.sweep.keys == (GAMMA, "method.augment.scale")


def test_arms_that_a_key_does_not_concern_stay_as_they_are() -> None:
    (run,) = grid("arms.deda+dire.gamma=0,10", "terms.dire.r_cdm=0.2", add=["dire"]).runs
    assert list(run.recipe.arms) == [
        "sre2l+dire-r_cdm-0_2",
        "deda+dire-gamma-0-r_cdm-0_2",
        "deda+dire-gamma-10-r_cdm-0_2",
    ]
    (run,) = grid("method.gamma=0,10").runs
    assert list(run.recipe.arms) == ["sre2l", "deda-gamma-0", "deda-gamma-10", "sre2l+dire"]
    assert run.recipe.arms["sre2l"] == fastdd.resolve(RECIPE).arms["sre2l"]
    assert run.recipe.sweep.points.keys() == {"deda-gamma-0", "deda-gamma-10"}


def test_keys_of_the_run_make_runs() -> None:
    found = grid("method.gamma=0,10", "ipc=1,2", "student.lr=1e-3")
    assert found.keys == (GAMMA, "ipc", "student.lr")
    assert [run.folder for run in found.runs] == ["ipc-1-lr-0_001", "ipc-2-lr-0_001"]
    assert [run.at for run in found.runs] == [{"ipc": n, "student.lr": 0.001} for n in (1, 2)]
    assert [run.recipe.ipc for run in found.runs] == [1, 2]
    assert all("deda-gamma-10" in run.recipe.arms for run in found.runs)
    (run,) = grid("ipc=3").runs
    assert (run.folder, run.recipe) == ("ipc-3", fastdd.resolve(RECIPE, ["ipc=3"]))


def test_a_teacher_of_the_committee_is_of_the_run() -> None:
    found = grid("committee.resnet32.epochs=1,2", recipe="cifar10-methods")
    assert found.keys == ("committee.resnet32.epochs",)
    assert [run.folder for run in found.runs] == ["epochs-1", "epochs-2"]


def test_the_grid_goes_over_the_overrides() -> None:
    (run,) = grid("method.gamma=7", overrides=["method.steps=5"]).runs
    method = run.recipe.arms["deda-gamma-7"]
    assert method.terms.gaussian is not None
    assert (method.terms.gaussian.gamma, method.steps) == (7, 5)


def test_arms_of_one_title_are_told_apart(recipe: str) -> None:
    text = Path(recipe).read_text().replace("sre2l: {method: sre2l", "deda2: {method: deda")
    Path(recipe).write_text(text)
    (run,) = grid("method.gamma=1", recipe=recipe).runs
    assert [point.title for point in run.recipe.sweep.points.values()] == ["DEDA (deda)", "DEDA (deda2)"]


def test_a_recipe_without_a_sweep_is_saved_as_before() -> None:
    plain = as_plain(fastdd.resolve(RECIPE))
    assert "sweep" not in plain
    (run,) = grid("method.gamma=1").runs
    assert Recipe.model_validate(yaml.safe_load(yaml.safe_dump(as_plain(run.recipe)))) == run.recipe


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["method.gama=1,2"], "unknown key 'method.gama' .did you mean 'gamma'"),
        (["method.gamma=1", "arms.deda.gamma=3"], "both set arms.deda.terms.gaussian.gamma; use one"),
        (["ipc=1", "ipc=2"], "--grid ipc and --grid ipc both set ipc"),
        (
            ["terms.dire=null,{}", "terms.dire.r_cd=1"],
            "--grid terms.dire.r_cd and --grid terms.dire both set",
        ),
        (["method.gamma="], "has no values"),
        (["method.gamma=[1"], "is not valid YAML"),
        (["method.gamma"], "must look like KEY=VALUE"),
        (["method.gamma=1,2,1.0"], "has the value 1 twice"),
        (["method.steps=1,few"], r"arms\.deda\.steps: input should be a valid integer.*'few'"),
        (["ipc=1,0"], "ipc: input should be greater than or equal to 1, got 0"),
        (["lr=1"], "'lr' is ambiguous"),
        (["sweep.keys=a"], "'sweep.keys' is of the section sweep, which no override changes"),
        (
            [f"method.steps={','.join(map(str, range(40)))}", f"seed={','.join(map(str, range(26)))}"],
            "the grid has 1040 points, at most 1000",
        ),
        ([], "a sweep needs a grid"),
    ],
)
def test_bad_grids(texts: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        grid(*texts)


def test_names_and_values_as_text() -> None:
    keys = ["method.lr", "student.lr", "method.terms.gaussian.gamma", "lr"]
    assert short_keys(keys) == {
        "method.lr": "method.lr",
        "student.lr": "student.lr",
        keys[2]: "gamma",
        "lr": "lr",
    }
    values = [0.0, 10, 1e-5, -1, True, None, "noise", [0.08, 1.0], {"a": [1.5]}]
    texts = ["0", "10", "1e-05", "-1", "true", "null", "noise", "[0.08, 1]", "{a: [1.5]}"]
    assert [value_text(value) for value in values] == texts
    assert folder_name({"a.b": 0.5, "c": [-1, 1]}, {"a.b": "b", "c": "c"}) == "b-0_5-c--1_1"


# -- runs --------------------------------------------------------------------------------------------

SCORES = ("last", "best", "coverage", "vendi", "cosine")


def test_a_sweep_of_a_method_is_one_run(
    recipe: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert cli.main(["sweep", recipe, "--grid", "method.gamma=0,50", "--out", str(out), "--seeds", "2"]) == 0
    metrics = json.loads((out / "metrics.json").read_text())
    content = json.loads((out / "sweep.json").read_text())
    assert list(metrics["arms"]) == ["random", "deda-gamma-0", "deda-gamma-50", "sre2l"]
    assert (content["recipe"], content["keys"]) == ("pets", [GAMMA])
    (run,) = content["runs"]
    assert (run["folder"], run["at"], run["protocol"]["seeds"]) == ("", {}, 2)
    for arm, values in {**run["arms"], "random": run["control"]}.items():
        assert all(metrics["arms"][arm][key] == values[key] for key in SCORES)
        assert len(values["last"]) == 2
    assert [arm["at"] for arm in run["arms"].values()] == [{GAMMA: 0.0}, {GAMMA: 50.0}, {}]
    units = [
        json.loads((out / f"recover/deda-gamma-{g}/unit_00000.json").read_text())["losses"] for g in (0, 50)
    ]
    assert (
        units[0][0]["gaussian"] < units[1][0]["gaussian"]
    )  # the same images, another weight on the covariances
    assert "by <b>gamma</b>" in (out / "report.html").read_text()
    assert "<svg" in (out / "sweep.svg").read_text()
    saved = fastdd.resolve(str(out / "recipe.yaml"))
    (expanded,) = grid("method.gamma=0,50", recipe=recipe, overrides=["student.seeds=2"]).runs
    assert (saved.arms, saved.sweep) == (expanded.recipe.arms, expanded.recipe.sweep)
    check_table(capsys.readouterr().out, run)


def check_table(text: str, run: dict[str, Any]) -> None:
    """A line the control and a line a set."""
    heading, *lines = (line.split() for line in text.splitlines()[:5])
    assert heading[:3] == ["gamma", "last", "%"]
    values = run["arms"]["deda-gamma-50"]
    control, first, second, other = lines
    assert [control[:3], first[:2], other[:1]] == [["random", "real", "images"], ["DEDA", "0"], ["SRe2L"]]
    assert second[:4] == ["DEDA", "50", f"{50 * sum(values['last']):.1f}", "±"]
    assert second[-4:-1] == [f"{values['coverage']:.3f}", f"{values['vendi']:.2f}", f"{values['cosine']:.3f}"]


def test_killed_and_continued_it_ends_with_the_same_bytes(
    recipe: str, tmp_path: Path, fastdd_process: Callable[..., Program], one_thread: None
) -> None:
    sweep(recipe, ["method.gamma=0,50"], tmp_path / "whole")
    out = tmp_path / "out"
    command = ("sweep", recipe, "--grid", "method.gamma=0,50", "--out", out)
    kill_when(fastdd_process(*command), out / "recover" / "deda-gamma-50" / "unit_00000.json")
    assert not (out / "sweep.json").exists()
    sweep(recipe, ["method.gamma=0,50"], out)
    assert results(out) == results(tmp_path / "whole")
    with pytest.raises(InputError, match="holds a run of another recipe"):
        sweep(recipe, ["method.gamma=0,51"], out)


def test_several_runs(recipe: str, tmp_path: Path) -> None:
    out, texts = tmp_path / "out", ["ipc=2,3", "method.gamma=0,50"]
    content = sweep(recipe, texts, out)
    assert content is not None
    assert [run.folder for run in content.runs] == ["ipc-2", "ipc-3"]
    assert [run.at for run in content.runs] == [{"ipc": 2}, {"ipc": 3}]
    alone = sweep(recipe, ["method.gamma=0,50"], tmp_path / "alone")  # the recipe has three images a class
    assert alone is not None
    assert content.runs[1].model_copy(update={"folder": "", "at": {}}) == alone.runs[0]
    others = ("sweep.json", "sweep.svg")
    assert results(out / "ipc-3") == {k: v for k, v in results(tmp_path / "alone").items() if k not in others}
    before = {path: path.stat().st_mtime_ns for path in out.rglob("seed_0.json")}
    shutil.rmtree(out / "ipc-3")
    assert sweep(recipe, texts, out) == content
    assert (
        len([path for path, time in before.items() if path.stat().st_mtime_ns == time])
        == len(before) / 2
        == 5
    )


@pytest.mark.slow
@pytest.mark.parametrize("fresh", [False, True])
def test_a_grid_without_a_point_of_the_sweep_in_the_folder_is_refused(
    recipe: str, tmp_path: Path, fresh: bool
) -> None:
    """It would replace sweep.json, and with it the results of that point."""
    out, few = tmp_path / "out", ["arms.deda.steps=1", "metrics.full_set=false"]
    assert sweep(recipe, ["ipc=1,2"], out, few, arms=["deda"]) is not None
    before = content(out)
    for texts in (["ipc=1"], ["ipc=2,3"], ["seed=0,1"]):
        with pytest.raises(
            InputError, match=r"has results of deda in ipc-\d, which would be lost: this grid"
        ):
            sweep(recipe, texts, out, few, arms=["deda"], fresh=fresh)
    assert content(out) == before
    more = sweep(recipe, ["ipc=1,2,3"], out, few, arms=["deda"])
    assert more is not None
    assert [run.at for run in more.runs] == [{"ipc": 1}, {"ipc": 2}, {"ipc": 3}]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("report.html", "is no page of fastdd"),
        ("sweep.svg", "is no figure of a sweep"),
        ("sweep.json", r"sweep\.json is damaged .* move it away, or choose another folder with --out"),
    ],
)
def test_a_sweep_overwrites_nothing_of_others(recipe: str, tmp_path: Path, name: str, told: str) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(InputError, match=told):
        sweep(recipe, ["ipc=1,2"], tmp_path)
    assert (tmp_path / name).read_text() == "mine"
    assert not list(tmp_path.glob("ipc-*"))


def test_a_bad_run_is_refused_before_the_first_begins(recipe: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown network 'resnet9'"):
        sweep(recipe, ["student.network=resnet8,resnet9"], tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(InputError, match=r"student\.seeds: input should be greater"):
        sweep(recipe, ["ipc=1,2"], tmp_path / "none", seeds=0)
    assert not (tmp_path / "none").exists()
    fastdd.run(recipe, tmp_path / "one", until="squeeze")
    with pytest.raises(InputError, match="is the folder of one run, but this sweep has several"):
        sweep(recipe, ["ipc=1,2"], tmp_path / "one")


def test_a_bad_later_run_leaves_what_is_there_even_with_fresh(recipe: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    fastdd.run(recipe, out / "network-resnet8", ["student.network=resnet8"], until="squeeze")
    before = content(out)
    assert "network-resnet8/teacher.safetensors" in before
    with pytest.raises(InputError, match="unknown network 'resnet9'"):
        sweep(recipe, ["student.network=resnet8,resnet9"], out, fresh=True)
    assert content(out) == before


def test_bad_input_on_the_command_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert cli.main(["sweep", "digits", "--grid", "method.gama=1", "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.startswith("error: unknown key 'method.gama'")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_processes_share_every_run_of_a_sweep(recipe: str, tmp_path: Path, one_thread: None) -> None:
    """The second run's queues are new, though they have the names of the first's."""
    fastdd.run(recipe, tmp_path / "squeezed", until="squeeze")
    given = f"teacher.weights={tmp_path / 'squeezed' / 'teacher.safetensors'}"
    together("-m", "fastdd", "sweep", recipe, given, "--grid", "seed=0,1", "--out", tmp_path / "two")
    sweep(recipe, ["seed=0,1"], tmp_path / "one", [given])
    assert (tmp_path / "two" / "sweep.json").read_bytes() == (tmp_path / "one" / "sweep.json").read_bytes()
    for run in ("seed-0", "seed-1"):
        assert results(tmp_path / "two" / run) == results(tmp_path / "one" / run)


def test_a_value_that_the_grid_sets_anyway_is_refused(recipe: str, tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"^method\.gamma=3 has no effect, since --grid method\.gamma sets it"
    ):
        grid("method.gamma=0,50", overrides=["method.gamma=3"])
    with pytest.raises(InputError, match=r"^--seeds 3 and student\.seeds=1 both set the number of students"):
        sweep(recipe, ["student.seeds=1,2"], tmp_path / "none", seeds=3)
    with pytest.raises(InputError, match=r"^--seeds 3 and student\.seeds=1 both set"):
        sweep(recipe, ["ipc=1,2"], tmp_path / "none", ["student.seeds=1"], seeds=3)
    assert grid("arms.deda.steps=1,2", overrides=["method.steps=3"]).runs  # SRe2L has the 3


def test_later_runs_take_over_the_teacher_and_the_bank_of_the_first(
    recipe: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """They are copied where they are those that the run would make, and the run is what it is alone."""
    out = tmp_path / "sweep"
    sweep(recipe, ["ipc=1,2"], out)
    said = capsys.readouterr().err
    assert f"squeeze: the teacher is that of {out / 'ipc-1'}" in said
    assert f"bank: the statistics are those of {out / 'ipc-1' / 'bank'}" in said
    fastdd.run(recipe, tmp_path / "alone", ["ipc=2"])
    assert results(out / "ipc-2") == results(tmp_path / "alone")


@pytest.mark.slow
def test_another_teacher_or_bank_is_not_taken_over(
    recipe: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep(recipe, ["teacher.lr=0.1,0.05"], tmp_path / "teachers")
    assert "is that of" not in capsys.readouterr().err
    sweep(recipe, ["bank.form=full,packed"], tmp_path / "banks")
    said = capsys.readouterr().err
    assert "the teacher is that of" in said
    assert "the statistics are those of" not in said

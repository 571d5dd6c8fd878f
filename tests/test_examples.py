"""The examples run as a user would run them, and do what they say."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest
from forked import output

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.mark.slow
def test_own_loop_brings_every_term_down() -> None:
    lines = [line.split(" ", 1) for line in output(EXAMPLES / "own_loop.py").splitlines()]
    assert [int(step) for step, _ in lines] == [0, 50, 100, 150, 199]
    first, last = (ast.literal_eval(lines[i][1]) for i in (0, -1))
    assert last["cross-entropy"] < 0.1 * first["cross-entropy"]
    assert last["BatchNorm"] < first["BatchNorm"]
    assert last["DiRe"] < first["DiRe"]


@pytest.mark.slow
def test_own_term_smooths_the_images() -> None:
    rows = (line.split() for line in output(EXAMPLES / "own_term.py").splitlines())
    roughness = {arm: float(value) for arm, value in rows}
    assert roughness["smooth"] < 0.8 * roughness["plain"]


def test_own_method_runs_beside_the_control() -> None:
    rows = dict(line.split(" ", 1) for line in output(EXAMPLES / "own_method.py").splitlines())
    assert list(rows) == ["random", "calm"]
    assert all(min(ast.literal_eval(accuracies)) > 0.2 for accuracies in rows.values())


def install(package: Path, site: Path) -> None:
    """Lay the files of an installed distribution as pip would: metadata, entry points, and the code."""
    project = tomllib.loads((package / "pyproject.toml").read_text())["project"]
    info = site / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    groups = project["entry-points"].items()
    lines = [f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in points.items()) for group, points in groups]
    (info / "entry_points.txt").write_text("\n".join(lines))
    for module in package.glob("*/__init__.py"):
        (site / module.parent.name).symlink_to(module.parent)


@pytest.mark.slow
def test_a_package_is_found_by_its_entry_point(tmp_path: Path) -> None:
    install(EXAMPLES / "plugin", tmp_path / "site")
    show = ("-m", "fastdd", "show", "digits")
    with_term = output(*show, "method.terms.l2.weight=0.5", path=tmp_path / "site")
    assert any(line.split()[:2] == ["arms.sre2l.terms.l2.weight", "0.5"] for line in with_term.splitlines())
    assert "terms.l2" not in output(*show)
    # whatever a program imports first
    first = "import fastdd.recover; from fastdd.config.terms import TERMS; print('l2' in TERMS)"
    assert output("-c", first, path=tmp_path / "site").split() == ["True"]


LAB = """\
import torch
from torch import nn

from fastdd.export import Form


def net(num_classes, channels):
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * 64, num_classes))


def images(rest, split):
    return [(torch.full((1, 8, 8), int(rest), dtype=torch.uint8), label) for label in (0, 1)]


PROTOCOL = {"network": "lab_net", "epochs": 3}
METHOD = {"title": "Lab", "init": "real", "steps": 7}
FORM = Form("nothing", lambda content, folder, shard_bytes: None, files="*", loading="a\\nb\\nc")
"""
LAB_PROJECT = """\
[project]
name = "fastdd-lab"
version = "1.0"
[project.entry-points]
"fastdd.networks" = {lab_net = "fastdd_lab:net"}
"fastdd.sources" = {lab_images = "fastdd_lab:images"}
"fastdd.protocols" = {lab_protocol = "fastdd_lab:PROTOCOL"}
"fastdd.methods" = {lab_method = "fastdd_lab:METHOD"}
"fastdd.exports" = {lab_form = "fastdd_lab:FORM"}
"""
LAB_USER = """\
import fastdd
from fastdd.data import open_dataset
from fastdd.export import FORMS
from fastdd.models.build import build

recipe = fastdd.resolve("lab.yaml")
print(recipe.arms["lab"].steps, recipe.arms["lab"].title)
print(recipe.student.network, recipe.student.epochs)
print(build(recipe.teacher.network, 5, 1)[1].out_features)
print(len(open_dataset(recipe.data.root, "test")))
print(FORMS["lab_form"].text)
"""
LAB_RECIPE = """\
data: {root: "lab_images:9", channels: 1}
teacher: {network: lab_net, mean: [0.3], std: [0.4]}
arms: {lab: {method: lab_method}}
student: {protocol: lab_protocol}
"""


def test_every_kind_of_thing_is_found_by_its_entry_point(tmp_path: Path) -> None:
    package = tmp_path / "project"
    (package / "fastdd_lab").mkdir(parents=True)
    (package / "fastdd_lab" / "__init__.py").write_text(LAB)
    (package / "pyproject.toml").write_text(LAB_PROJECT)
    (tmp_path / "lab.yaml").write_text(LAB_RECIPE)
    install(package, tmp_path / "site")
    lines = output("-c", LAB_USER, folder=tmp_path, path=tmp_path / "site").splitlines()
    assert lines == ["7 Lab", "lab_net 3", "5", "2", "nothing"]


def test_own_data_are_distilled_and_judged() -> None:
    rows = (line.split() for line in output(EXAMPLES / "own_data.py").splitlines())
    accuracies = {arm: float(last) for arm, last in rows}
    assert accuracies.keys() == {"random", "deda"}
    assert accuracies["deda"] > 0.7


@pytest.mark.slow
def test_own_networks_teach_and_learn() -> None:
    rows = dict(line.split(" ", 1) for line in output(EXAMPLES / "own_network.py").splitlines())
    assert list(rows) == ["teacher", "random", "deda"]
    assert float(rows["teacher"]) > 0.8
    assert all(min(ast.literal_eval(rows[arm])) > 0.2 for arm in ("random", "deda"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """The run that the example of timm makes, and the lines that it prints."""
    pytest.importorskip("timm")
    folder = tmp_path_factory.mktemp("labelled")
    lines = output(EXAMPLES / "train_my_network.py", folder=folder).splitlines()
    return folder / "runs/labelled_digits", lines


@pytest.mark.slow
def test_a_network_of_timm_is_trained_on_stored_views(trained: tuple[Path, list[str]]) -> None:
    lines = trained[1]
    assert any(line.startswith("LoadedSet(100 images of 10 classes, 1 x 8 x 8") for line in lines)
    assert float(lines[-1].split(" ")[0]) > 40


def percents(text: str) -> dict[str, float]:
    """What stands before a colon -> the first number in percent behind it."""
    found = re.findall(r"^([^:\n]+): [^%\n]*?([\d.]+) %", text, re.M)
    return {name.strip(): float(number) for name, number in found}


@pytest.mark.slow
def test_lightning_trains_on_stored_views_beside_the_control(trained: tuple[Path, list[str]]) -> None:
    pytest.importorskip("lightning")
    accuracies = percents(output(EXAMPLES / "train_with_lightning.py", trained[0]))
    assert accuracies.keys() == {"random", "deda"}
    assert accuracies["deda"] > 40


@pytest.mark.slow
def test_a_file_of_medmnist_is_distilled() -> None:
    accuracies = percents(output(EXAMPLES / "medmnist.py"))
    assert accuracies.keys() == {"random", "deda"}
    assert accuracies["deda"] > 40


@pytest.mark.slow
def test_a_label_budget_is_pruned_beside_the_control() -> None:
    lines = output(EXAMPLES / "label_budget.py").splitlines()
    read: dict[str, int] = {}
    for line in lines:
        name, _, rest = line.partition(": ")
        read[name] = int(rest.split()[0].replace(",", ""))
        assert "random" in rest
        assert "deda" in rest
    assert list(read) == ["classes alone", "fp16", "int4", "top2", "int4-tenth"]
    assert read["classes alone"] == 0
    assert read["int4-tenth"] < read["int4"] < read["fp16"]


@pytest.mark.slow
def test_an_architecture_search_tells_whether_its_order_is_that_of_the_whole_set() -> None:
    lines = output(EXAMPLES / "architecture_search.py", "1").splitlines()
    assert len(lines) == 9
    found = {line.partition(":")[0]: float(line.split()[-1]) for line in lines[-2:]}
    assert found.keys() == {"random", "dm"}
    assert all(-1 <= correlation <= 1 for correlation in found.values())


@pytest.mark.slow
def test_a_memory_keeps_what_was_learned_before() -> None:
    accuracies = percents(output(EXAMPLES / "continual_memory.py"))
    assert accuracies["none"] < 40  # the classes of the last task alone
    assert accuracies["random"] > accuracies["none"] + 10
    assert accuracies["dm"] > accuracies["none"] + 10

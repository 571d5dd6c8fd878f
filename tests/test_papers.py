"""Tables and figures of papers as recipes: which numbers they show, and how."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import fastdd
from fastdd.__main__ import main
from fastdd.config import Published
from fastdd.config.published import Number
from fastdd.errors import InputError
from fastdd.recipes.grid import expand, whole_item
from fastdd.recipes.presets import paper_items, read
from fastdd.recipes.published import images_a_class, numbers_at
from fastdd.recipes.resolve import resolve
from fastdd.run_folder.published import VALUES, Measured, compare

ROOT = Path(__file__).parents[1]
TRIAL = """
description: A trial of numbers that a paper prints.
data: {root: digits, channels: 1}
teacher: {network: resnet8, mean: [0.305], std: [0.376], epochs: 1, batch: 64, pad: 1, minimum_accuracy: 0}
arms:
  sre2l: {method: sre2l, steps: 2, augment: {roll: [-1, 1]}}
  deda: {method: deda, steps: 2, augment: {roll: [-1, 1]}}
student: {network: resnet8, steps: 2, seeds: 2, pad: 1}
metrics: {full_set: false}
"""


@pytest.mark.parametrize("name", paper_items())
def test_every_item_resolves_for_all_that_its_paper_prints(name: str) -> None:
    """Each number of a paper is of an arm and of students that the recipe has."""
    document = read(name)
    printed = document.values.get("published")
    written = document.values.get("students", {})
    students = {"student", *(written if isinstance(written, dict) else ())}
    numbers = printed["numbers"] if isinstance(printed, dict) else {resolve(name).recipe.dataset: {}}
    for dataset in numbers:
        for ipc in images_a_class(numbers[dataset]) or [10]:
            recipe = resolve(name, [f"dataset={dataset}", f"ipc={ipc}"]).recipe
            if recipe.published is None:
                continue
            assert recipe.published.accuracy.keys() <= students
            plain = recipe.published.model_dump(mode="json")
            by_arm = [plain[key] for key in ("coverage", "cosine", "vendi", "seconds")]
            by_arm += [*plain["accuracy"].values(), *plain["impact"].values()]
            assert any(by_arm), f"{dataset} at {ipc}"
            for each in by_arm:
                assert each.keys() <= {"random", *document.arms}


@pytest.mark.parametrize("name", paper_items())
def test_diversity_and_seconds_are_shown_with_as_many_decimals_as_the_paper_prints(name: str) -> None:
    """G-VBSM covers 0.0004 of CIFAR-10, and 0.0006 with DiRe."""
    published = read(name).values.get("published")
    numbers = published["numbers"] if isinstance(published, dict) else {}
    for dataset in numbers:
        for ipc in images_a_class(numbers[dataset]) or [10]:
            found = resolve(name, [f"dataset={dataset}", f"ipc={ipc}"]).recipe.published
            for key, (_, digits) in VALUES.items():
                printed = {} if found is None else getattr(found, key)
                assert all(round(number.mean, digits) == number.mean for number in printed.values()), key


def test_the_document_of_the_papers_lists_every_item() -> None:
    text = (ROOT / "docs/papers.md").read_text()
    named = set(re.findall(r"`fastdd (?:run|sweep|squeeze) ((?:deda|dire)-(?:table|figure)\w+)", text))
    assert named == set(paper_items())


def test_the_list_of_recipes_has_every_item(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipes"]) == 0
    shown = capsys.readouterr().out
    for name in paper_items():
        assert re.search(rf"^ {name} ", shown, re.MULTILINE), name
        assert paper_items()[name].title.split(".")[0] in shown


@pytest.mark.parametrize(
    ("text", "number"),
    [("27.2 ± 0.4", Number(27.2, 0.4)), (38, Number(38)), ([1.5, 0.25], Number(1.5, 0.25)), ("3", Number(3))],
)
def test_a_number_of_a_table(text: object, number: Number) -> None:
    read = Published.model_validate({"item": "a table", "coverage": {"a": text}})
    assert read.coverage["a"] == number
    assert Published.model_validate(read.model_dump(mode="json")) == read


@pytest.mark.parametrize("text", ["27.2 +- 0.4", "", [], [1, 2, 3], True, None, "nan"])
def test_what_is_no_number_of_a_table(text: object) -> None:
    with pytest.raises(ValueError, match=r"expected a number such as 27\.2 ± 0\.4"):
        Published.model_validate({"item": "a table", "coverage": {"a": text}})


def test_numbers_are_chosen_by_images_a_class() -> None:
    numbers = {
        "accuracy": {"student": {"a": {"1": "2 ± 1", "10": 3}, "b": {"10": 4}}},
        "coverage": {"a": 0.5},
    }
    assert numbers_at(numbers, 1) == {"accuracy": {"student": {"a": "2 ± 1"}}, "coverage": {"a": 0.5}}
    assert numbers_at(numbers, 10)["accuracy"] == {"student": {"a": 3, "b": 4}}
    assert numbers_at(numbers, 50) == {"coverage": {"a": 0.5}}
    assert images_a_class(numbers) == [1, 10]


@pytest.mark.parametrize("numbers", ["3", "{cifar10: 3}", "{cifar10: {accuracy: 3}}", "[1]"])
def test_numbers_in_another_form_are_refused(tmp_path: Path, numbers: str) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(
        f"dataset: cifar10\narms: {{deda: {{method: deda}}}}\npublished: {{item: x, numbers: {numbers}}}"
    )
    with pytest.raises(InputError, match="published"):
        resolve(str(recipe))


def test_numbers_of_what_the_recipe_lacks_are_refused_in_a_papers_file(tmp_path: Path) -> None:
    recipe = tmp_path / "mine.yaml"
    text = "dataset: cifar10\narms: {deda: {method: deda}}\npublished:\n  item: x\n"
    recipe.write_text(
        text + "  numbers: {tiny: {accuracy: {student: {dedda: {10: 1}, random: 2}, large: {deda: 3}}}}"
    )
    with pytest.raises(
        InputError, match="published has numbers for arm 'dedda', students 'large', which the"
    ):
        resolve(str(recipe))


def test_numbers_of_what_the_recipe_lacks_are_said(tmp_path: Path) -> None:
    recipe = tmp_path / "mine.yaml"
    text = "dataset: cifar10\narms: {deda: {method: deda}}\npublished:\n  item: x\n"
    recipe.write_text(text + "  coverage: {deda: 0.1, dedda: 0.2}")
    assert "published has numbers for arm 'dedda', which the recipe lacks" in resolve(str(recipe)).note
    recipe.write_text(text + "  coverage: {deda: 0.1, random: 0.2}")
    assert "which the recipe lacks" not in resolve(str(recipe)).note


def test_ours_beside_theirs() -> None:
    published = Published.model_validate(
        {
            "item": "a table",
            "accuracy": {"student": {"a": "40 ± 1", "b": 50, "gone": 1}, "large": {"a": 60}},
            "vendi": {"a": 2.5},
            "seconds": {"a": 10, "b": 20},
            "impact": {"cosine": {"a": 0.25, "b": 1, "c": 0}},
        }
    )
    arms = {
        "a": Measured({"student": (0.25, 0.75), "large": (0.5,)}, {"vendi": 2, "seconds": 5, "cosine": 0.5}),
        "b": Measured({"student": (0.5, None), "large": (0.5,)}, {"vendi": 1.0, "cosine": 0.9}),
        "c": Measured({"student": (0.1,)}, {"cosine": 0.4}),
    }
    compared = compare(published, arms, {"student": "net8, last", "large": "net9, best"})
    rows = {(row.arm, row.quantity): row for row in compared.rows}
    first = rows["a", "accuracy of net8, last, %"]
    assert (first.ours, first.deviation, first.paper, first.paper_deviation) == (
        50,
        pytest.approx(50 / 2**0.5),
        40,
        1,
    )
    assert first.difference == 10
    diverged = rows["b", "accuracy of net8, last, %"]
    assert (diverged.ours, diverged.difference) == (None, None)
    assert rows["a", "accuracy of large (net9, best), %"].difference == -10
    assert rows["a", "Vendi score"].difference == -0.5
    assert rows["a", "recover, s"].difference == -5
    assert rows["b", "recover, s"].ours is None
    places = [rows[arm, "cosine, normalized"].ours for arm in "abc"]
    assert places == pytest.approx([0.2, 1, 0])
    assert len(rows) == len(compared.rows) == 9


def test_a_run_shows_a_papers_numbers_and_their_difference_and_reduced_arms(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    less = "2 of the method's 1,000 steps"
    monkeypatch.setattr("fastdd.recipes.resolve.reduced_arms", lambda *_: {"sre2l": less})
    recipe = tmp_path / "trial.yaml"
    recipe.write_text(
        TRIAL
        + """
published:
  item: <Paper> & Co., Table 1
  differs: the digits are smaller.
  accuracy: {student: {sre2l: 27.2 ± 0.4}}
"""
    )
    out = tmp_path / "run"
    assert main(["run", str(recipe), "ipc=2", "--out", str(out), "--arms", "sre2l"]) == 0
    shown = capsys.readouterr().out
    metrics = json.loads((out / "metrics.json").read_text())
    assert list(metrics["arms"]) == ["random", "sre2l"]
    (row,) = metrics["published"]["rows"]
    ours = sum(metrics["arms"]["sre2l"]["last"]) / 2 * 100
    assert (row["ours"], row["paper"], row["paper_deviation"]) == (pytest.approx(ours), 27.2, 0.4)
    line = next(line for line in shown.splitlines() if "27.2 ± 0.4" in line)
    assert f"{ours - 27.2:+.1f}" in line
    assert "differs from the paper: the digits are smaller." in shown
    page = (out / "report.html").read_text()
    assert "&lt;Paper&gt; &amp; Co., Table 1" in page
    assert "Beside the paper" in page
    assert metrics["arms"]["sre2l"]["reduced"] == less
    assert "reduced" not in metrics["arms"]["random"]
    assert "SRe2L (reduced)" in shown
    assert line.lstrip().startswith("SRe2L (reduced)")
    assert f"reduced, no results of their methods: SRe2L: {less}" in shown
    assert f"reduced: {less.replace(chr(39), '&#39;')}" in page
    assert "SRe2L (reduced) <code>sre2l</code>" in page
    assert "no result of the method" in page
    # a corrected number of the paper is taken, and the run is not made again
    before = json.loads((out / "manifest.json").read_text())
    recipe.write_text(recipe.read_text().replace("27.2 ± 0.4", "28.0"))
    assert main(["run", str(recipe), "ipc=2", "--out", str(out), "--arms", "sre2l"]) == 0
    corrected = json.loads((out / "metrics.json").read_text())
    assert corrected["published"]["rows"][0]["paper"] == 28.0
    assert corrected["arms"] == metrics["arms"]
    after = json.loads((out / "manifest.json").read_text())
    del before["stages"]["report"], after["stages"]["report"]  # the page is made again
    assert after == before
    assert "27.2" not in (out / "recipe.yaml").read_text()
    # the saved recipe says the same again
    assert (
        resolve(str(out / "recipe.yaml")).recipe.published
        == fastdd.resolve(str(recipe), ["ipc=2"], arms=["sre2l"]).published
    )


def test_a_sweep_marks_reduced_arms_beside_a_papers_numbers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    less = "2 of the method's 1,000 steps"
    monkeypatch.setattr("fastdd.recipes.resolve.reduced_arms", lambda *_: {"sre2l": less})
    recipe = tmp_path / "trial.yaml"
    numbers = "published:\n  item: A table\n  differs: it is small.\n  accuracy: {student: {sre2l: 27.2}}\n"
    recipe.write_text(TRIAL + numbers)
    command = ["sweep", str(recipe), "--grid", "ipc=1", "--arms", "sre2l", "--out", str(tmp_path / "out")]
    assert main(command) == 0
    shown = capsys.readouterr().out
    assert "differs from the paper: it is small." in shown
    rows = [line for line in shown.splitlines() if line.lstrip().startswith("SRe2L (reduced)")]
    assert len(rows) == 2  # the sweep's table, and the paper's numbers
    assert f"reduced, no results of their methods: SRe2L: {less}" in shown


def test_arms_are_chosen_by_name() -> None:
    assert list(resolve("cifar10-table", arms=["deda", "sre2l"]).recipe.arms) == ["sre2l", "deda"]
    with pytest.raises(
        InputError, match=r"recipe cifar10-table has no arm 'dedda' \(did you mean 'deda'\?\)"
    ):
        resolve("cifar10-table", arms=["dedda"])
    with pytest.raises(InputError, match="arms must be a list of texts"):
        resolve("cifar10-table", arms="deda")
    added = resolve("cifar10-methods", add=["dire"], arms=["cda"]).recipe
    assert "cda+dire" in added.arms


def test_arms_may_be_named_in_several_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "cifar10-table", "--arms", "deda", "--arms", "sre2l, "]) == 0
    assert {"arms.deda.steps", "arms.sre2l.steps"} <= set(capsys.readouterr().out.split())


@pytest.mark.parametrize("text", [",", " "])
def test_no_arms_are_not_all_arms(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["show", "cifar10-table", "--arms", text])
    assert "has no name; give some, with commas between them" in capsys.readouterr().err


def test_further_students_are_chosen_with_all_that_names_them(capsys: pytest.CaptureFixture[str]) -> None:
    chosen = resolve("cifar10-labels", students=["fp16", "codes1-half"]).recipe
    assert set(chosen.students) == set(chosen.student_labels) == {"fp16", "codes1-half"}
    assert chosen.students["fp16"] == resolve("cifar10-labels").recipe.students["fp16"]
    regimes = resolve("cifar10-frontier", ["regimes=hard,online"], students=["small"]).recipe
    assert {each.network for each in regimes.students.values()} == {"resnet8", regimes.student.network}
    of_arm = resolve("dire-table4", students=["infer-static"]).recipe
    assert set(of_arm.student_arms) == {"infer-static"}
    with pytest.raises(InputError, match=r"no further student 'convnt' \(did you mean 'convnet'\?\)"):
        resolve("cifar10-frontier", students=["convnt"])
    assert main(["slurm", "cifar10-frontier", "--students", "small,convnet"]) == 0
    assert "--students small,convnet" in capsys.readouterr().out


def test_tables_and_figures_that_are_no_recipe_say_why() -> None:
    for name, reason in {
        "dire-table1": "notation",
        "deda-figure2": "draws",
        "deda-figure3": "figure3a",
    }.items():
        with pytest.raises(InputError, match=f"{name} is no recipe: .*{reason}"):
            resolve(name)
        assert name not in paper_items()


def test_an_item_of_one_column_is_no_sweep() -> None:
    with pytest.raises(InputError, match="the whole of dire-table17 is one run: `fastdd run dire-table17`"):
        expand("dire-table17", whole_item("dire-table17"))


def test_a_recipe_goes_to_another_data_set() -> None:
    recipe = resolve("cifar10-methods", ["dataset=cifar100"], arms=["sre2l"]).recipe
    assert (recipe.dataset, recipe.data.root) == ("cifar100", "cifar-100-python")
    with pytest.raises(InputError, match=r"unknown dataset 'cifar11' \(did you mean 'cifar10'\?\)"):
        resolve("cifar10-methods", ["dataset=cifar11"])
    with pytest.raises(InputError, match="the recipe is called tiny-deda"):
        resolve("cifar10-deda", ["dataset=tiny"])
    with pytest.raises(InputError, match="takes no data set, it says itself where its images are"):
        resolve("digits", ["dataset=cifar10"])


def test_what_a_paper_has_no_numbers_for_is_said() -> None:
    resolved = resolve("dire-table2", ["dataset=tiny", "ipc=50"])
    assert "has no numbers for tiny at ipc 50; it has some for cifar10 at ipc 10, 50, 100" in resolved.note
    assert "numbers" not in resolve("dire-table2").note


def test_features_that_a_paper_has_and_the_run_lacks_are_said() -> None:
    assert "which metrics.features=clip:FILE measures" in resolve("dire-table16").note
    assert "clip:" not in resolve("dire-table16", ["metrics.features=clip:weights.pt"]).note


def test_a_sweep_of_an_item_makes_the_whole_of_it() -> None:
    (axis,) = whole_item("dire-table2")
    assert (axis.key, axis.values) == ("ipc", ("10", "50", "100"))
    assert whole_item("digits") == []


def test_an_addition_by_its_name_is_as_released() -> None:
    """``method: dire`` in an arm is what the recipe DATASET-dire has."""
    arms = resolve("dire-table2").recipe.arms
    alone = resolve("cifar10-dire").recipe.arms["sre2l+dire"]
    assert arms["sre2l+dire"].model_copy(update={"committee": None}) == alone
    assert arms["sre2l+dire"].lr == 0.1
    assert arms["sre2l+dire"].title == "SRe2L + DiRe"


def test_each_arm_uses_the_teachers_that_its_method_declares() -> None:
    recipe = resolve("dire-table8", ["ipc=10"]).recipe
    alone = {name: resolve(f"imagenet1k-{name}").recipe for name in ("gvbsm", "infer")}
    assert recipe.committee.keys() == alone["gvbsm"].committee.keys() | alone["infer"].committee.keys()
    for arm in ("gvbsm", "infer", "infer+dire"):
        method = arm.removesuffix("+dire")
        assert set(recipe.arms[arm].committee or ()) == alone[method].committee.keys()
    assert recipe.arms["sre2l"].committee == ()
    assert resolve("dire-table8", arms=["sre2l", "dwa"]).recipe.committee == {}
    assert resolve("cifar10-methods").recipe.arms["gvbsm"].committee is None


def test_arms_that_the_paper_does_not_print_here_are_left_out() -> None:
    resolved = resolve("dire-table2", ["ipc=100"])
    assert list(resolved.recipe.arms) == ["sre2l", "sre2l-as-dire", "sre2l+dire", "dwa", "dwa+dire"]
    assert resolved.recipe.students == {}
    assert "left out, since the paper has no numbers for them here: infer, infer+dire, gvbsm" in resolved.note
    assert "infer" in resolve("dire-table2", ["ipc=100"], arms=["infer"]).recipe.arms
    whole = resolve("dire-table2").recipe
    assert whole.student_arms["infer-dynamic"] == ("infer", "infer+dire")
    assert whole.published is not None
    assert whole.published.accuracy["infer-dynamic"]["infer+dire"] == Number(57.1, 0.9)

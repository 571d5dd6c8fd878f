"""From text to value: the type of a key decides, integers are strict, and each value is read once."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

import fastdd
from fastdd.config import Config, Method, Student
from fastdd.config.yaml_text import dump_yaml, load_yaml
from fastdd.errors import InputError
from fastdd.recipes.grid import expand, parse_grid
from fastdd.recipes.students import resolve_student

TEXTS = (
    "run #1",
    "2024",
    "007",
    "on",
    "x:",
    "@d",
    "%d",
    "*all",
    "!bang",
    "&amp",
    "1e3",
    "true",
    "~",
    "[a",
    "{b",
    "'quoted'",
    " spaces ",
    "a=b",
    "- x",
    "1_0",
    "2024-01-01",
    "a: b",
    "null ",
    "è",
)
"""texts that YAML would change, drop or refuse"""


def write(folder: Path, text: str) -> str:
    (folder / "own.yaml").write_text(text)
    return str(folder / "own.yaml")


def message(recipe: str, *overrides: str, **arguments: Any) -> str:
    """The error of a recipe, which is one line of at most 600 characters."""
    with pytest.raises(InputError) as caught:
        fastdd.resolve(recipe, list(overrides), **arguments)
    text = str(caught.value)
    assert len(text.splitlines()) == 1
    assert len(text) <= 600, text
    return text


# -- text ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", TEXTS)
def test_a_key_of_text_takes_its_text_as_it_stands(text: str) -> None:
    keys = ("description", "method.title", "data.root", "teacher.weights")
    recipe = fastdd.resolve("digits", [f"{key}={text}" for key in keys])
    assert (recipe.description, recipe.data.root, recipe.teacher.weights) == (text, text, text)
    assert {arm.title for arm in recipe.arms.values()} == {text}


def test_no_text_is_no_file() -> None:
    assert "data.root: string should have at least 1 character, got ''" in message("digits", "data.root=")
    assert "teacher.weights: " in message("digits", "teacher.weights=")
    assert fastdd.resolve("digits", ["description="]).description == ""


def test_null_stands_for_no_text_where_there_may_be_none() -> None:
    assert fastdd.resolve("digits", ["teacher.weights=x", "teacher.weights=null"]).teacher.weights is None
    assert fastdd.resolve("digits", ["data.root=null"]).data.root == "null"


@pytest.mark.parametrize("kind", ["none", "true", "running"])
def test_every_word_of_a_key_can_be_typed(kind: str) -> None:
    assert fastdd.resolve("digits", [f"bank.class_bn={kind}"]).bank.class_bn == kind


def test_words_that_look_like_truth_values_need_quotes_in_files(tmp_path: Path) -> None:
    name = write(tmp_path, "arms: {a: {method: deda}}\nbank: {class_bn: 'true'}")
    assert fastdd.resolve(name).bank.class_bn == "true"
    name = write(tmp_path, "arms: {a: {method: deda}}\nbank: {class_bn: true}")
    assert message(name).endswith(
        "bank.class_bn: input should be 'none', 'true' or 'running', got true; write text in quotes"
    )
    name = write(tmp_path, "arms: {a: {method: deda}}\ndata: {root: 2024}")
    assert message(name).endswith("data.root: input should be a valid string, got 2024; write text in quotes")


@pytest.mark.parametrize("text", ["007", "on", "no", "1:30", "2024-01-01", "0x10", "=", "1_0"])
def test_text_of_files_is_text_without_quotes_too(tmp_path: Path, text: str) -> None:
    assert fastdd.resolve(write(tmp_path, f"arms: {{a: {{}}}}\ndata: {{root: {text}}}")).data.root == text


def test_a_grid_of_texts() -> None:
    found = expand("digits", [parse_grid("data.root=run #1,2024,'a,b'")])
    assert [run.recipe.data.root for run in found.runs] == ["run #1", "2024", "'a,b'"]
    with pytest.raises(InputError, match=r"--grid method.gamma has the value 1\.0 twice"):
        expand("digits", [parse_grid("method.gamma=1.0,2,1e0")])


# -- numbers ---------------------------------------------------------------------------------------

NO_INTEGERS = (
    "10.0",
    '"10"',
    "true",
    "1_0",
    "02",
    "'\"2\"'",
    "1e1",
    "0x10",
    "1:30",
    "ten",
    "null",
    "",
    "[10]",
    "{a: 1}",
    "10 11",
    "0o7",
    "٣",
)


@pytest.mark.parametrize("text", NO_INTEGERS)
def test_integers_are_strict_in_overrides(text: str) -> None:
    assert "ipc: input should be a valid integer, got " in message("digits", f"ipc={text}")
    assert "arms.sre2l.steps: input should be a valid integer" in message("digits", f"method.steps={text}")


@pytest.mark.parametrize("text", ["10.0", '"10"', "true", "1_0", "02", "'2'", "0x10", "1:30", "[10]", ""])
def test_integers_are_strict_in_files(tmp_path: Path, text: str) -> None:
    name = write(tmp_path, f"ipc: {text}\narms: {{a: {{method: deda}}}}")
    assert "own.yaml: ipc: input should be a valid integer, got " in message(name)


def test_a_configuration_of_ones_own_is_strict_too() -> None:
    class Own(Config):
        count: int = 1
        sizes: tuple[float, ...] = ()

    assert Own.model_validate({"count": 2, "sizes": [1, 0.5]}).sizes == (1.0, 0.5)
    for bad in ({"count": 2.0}, {"count": True}, {"count": "2"}, {"sizes": [True]}, {"sizes": ["1"]}):
        with pytest.raises(ValidationError):
            Own.model_validate(bad)


@pytest.mark.parametrize(
    ("text", "value"), [("1", 1.0), ("1e-3", 1e-3), (".5", 0.5), ("5.", 5.0), ("+2.5E+0", 2.5), (" 1 ", 1.0)]
)
def test_numbers(tmp_path: Path, text: str, value: float) -> None:
    assert fastdd.resolve("digits", [f"student.lr={text}"]).student.lr == value
    name = write(tmp_path, f"arms: {{a: {{method: deda}}}}\nstudent: {{lr: {text}}}")
    assert fastdd.resolve(name).student.lr == value


@pytest.mark.parametrize("key", ["seed", "ipc", "student.steps", "method.steps", "student.pad", "epochs"])
def test_huge_integers_are_refused(key: str) -> None:
    digits = "1" + 23 * "0"
    key = "teacher.epochs" if key == "epochs" else key
    three = str(Path(__file__).parent / "three_arms.yaml")
    assert f"got {digits}" in message(three, f"{key}={digits}")
    assert "integer" in message(three, f"{key}={5000 * '9'}")


@pytest.mark.parametrize("value", ["nan", ".nan", ".inf", "-.inf", "inf", "1e999", "-1e999"])
def test_numbers_that_are_none_are_refused(tmp_path: Path, value: str) -> None:
    assert "student.lr: input should be a " in message("digits", f"student.lr={value}")
    name = write(tmp_path, f"arms: {{a: {{method: deda}}}}\nteacher: {{mean: [0.1, {value}, 0.2]}}")
    assert "teacher.mean.1: input should be a " in message(name)


# -- once ------------------------------------------------------------------------------------------


def test_the_declaration_reads_the_validated_images_a_class(tmp_path: Path) -> None:
    name = write(tmp_path, "ipc: 1\narms: {deda: {method: deda}}")
    assert fastdd.resolve(name).arms["deda"].terms.covariance is None
    assert fastdd.resolve(name, ["ipc=10"]).arms["deda"].terms.covariance is not None
    for text in ("10.0", '"10"', "true"):
        assert "ipc: input should be a valid integer" in message(name, f"ipc={text}")


def test_the_protocol_is_read_once_however_it_is_given() -> None:
    whole = fastdd.resolve("digits", ["student={protocol: sre2l-cifar}"]).student
    assert whole == fastdd.resolve("digits", ["student.protocol=sre2l-cifar"]).student
    assert whole == fastdd.resolve("digits", ["protocol=sre2l-cifar"]).student
    assert resolve_student({}, None, ["student={protocol: sre2l-cifar}"]) == resolve_student(
        {}, "sre2l-cifar"
    )
    assert "unknown protocol '3'" in message("digits", "protocol=3")


def test_evaluate_takes_the_keys_that_run_takes() -> None:
    changed = resolve_student({}, None, ["randaugment.magnitude=5"]).randaugment
    assert changed is not None
    assert changed == fastdd.resolve("digits", ["randaugment.magnitude=5"]).student.randaugment
    assert changed.magnitude == 5


@pytest.mark.parametrize("given", ["ipc=3", 3, [3], [None], ("ipc=3", 4), b"ipc=3"])
def test_overrides_and_additions_are_lists_of_texts(given: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"overrides must be a list of texts, such as \['ipc=10'\], got "):
        fastdd.resolve("digits", given)
    with pytest.raises(InputError, match=r"overrides must be a list of texts"):
        fastdd.run("digits", tmp_path / "out", given)
    with pytest.raises(InputError, match=r"add must be a list of texts, such as \['dire'\], got "):
        fastdd.resolve("digits", add=given)
    assert not (tmp_path / "out").exists()


def test_python_values_are_strict_too() -> None:
    with pytest.raises(ValidationError):
        Student.model_validate({"batch": 10.0})
    assert Method.model_validate({"init": "real", "augment": {"roll": [0, 4]}}).augment.roll == (0, 4)


# -- YAML ------------------------------------------------------------------------------------------

BOMB = "a: &a [x, x]\n" + "\n".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [*{chr(97 + i)}, *{chr(97 + i)}]" for i in range(24)
)
BAD_YAML = {
    "an alias bomb": (BOMB, "line 2, column 8: *a refers to another value"),
    "a mapping in itself": ("arms: &a {x: *a}", "*a refers to another value"),
    "deep lists": ("arms: " + 3000 * "[", "more than 40 sections or lists within each other"),
    "deep sections": ("arms: " + 3000 * "{a: ", "more than 40 sections or lists within each other"),
    "deep blocks": ("\n".join(i * " " + "a:" for i in range(3000)), "more than 40"),
    "two equal list keys": ("[1]: 2\n[1]: 3", "line 1, column 1: a key must be text"),
    "a mapping as key": ("{a: 1}: 2", "a key must be text"),
    "a missing quote": ("arms: {a: {method: 'deda}}\nipc: 3", "line 2"),
    "a tab": ("arms:\n\ta: {}", "line 2"),
    "a missing colon": ("arms:\n  a: {}\nipc 3\nseed: 2", "line 4"),
    "two documents": ("arms: {a: {}}\n---\narms: {b: {}}", "line 2"),
    "a control character": ("arms: \x00", "special characters"),
    "a number's tag": ("ipc: !!int '3'", "means nothing here"),
}


@pytest.mark.parametrize("kind", BAD_YAML)
def test_bad_yaml_is_one_line_and_no_hang(kind: str, tmp_path: Path) -> None:
    text, expected = BAD_YAML[kind]
    started = time.monotonic()
    got = message(write(tmp_path, text))
    assert "own.yaml is not valid YAML: " in got
    assert expected in got
    assert time.monotonic() - started < 5


def test_merge_keys_are_unknown_keys(tmp_path: Path) -> None:
    assert "unknown key <<" in message(write(tmp_path, "arms: {a: {method: deda}}\n<<: {ipc: 3}"))


@pytest.mark.parametrize(
    "value", ["1e5", "02", "on", "1.5", "-3", ".5", "null", "@d", "1:30", "+1e3", "5.", ""]
)
def test_written_recipes_read_the_same_by_both_rules(value: str) -> None:
    text = dump_yaml({"a": value, "b": [1, 2.5, 1e-5, None, True]})
    assert load_yaml(text, "text") == yaml.safe_load(text) == {"a": value, "b": [1, 2.5, 1e-5, None, True]}


def test_what_is_no_recipe_or_folder_is_refused_in_python() -> None:
    for value in ({"ipc": 1}, None, 5):
        with pytest.raises(
            InputError, match=r"^recipe is a \w+, expected a built-in name, a file or a Recipe"
        ):
            fastdd.run(value)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"^out is a int, expected a folder as a text or a Path"):
        fastdd.run("digits", out=5)  # type: ignore[arg-type]

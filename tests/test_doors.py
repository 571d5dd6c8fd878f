"""Doors: what is the user's own is registered, or found by its entry point, without a change to the
package."""

from __future__ import annotations

import re
from pathlib import Path

import forked
import pytest

import fastdd
from fastdd.config import Student
from fastdd.errors import InputError
from fastdd.protocols import PROTOCOLS
from fastdd.recipes.students import resolve_student


@pytest.fixture
def few_protocols(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers is gone after it."""
    len(PROTOCOLS)  # those of fastdd are loaded before the copy
    monkeypatch.setattr(PROTOCOLS, "_things", dict(PROTOCOLS._things))


@pytest.mark.usefixtures("few_protocols")
def test_a_registered_protocol_is_a_preset_of_recipes_and_of_sets() -> None:
    fastdd.register_protocol("lab", {"epochs": 3, "batch": 7, "randaugment": {"magnitude": 9}})
    expected = Student.model_validate(
        {"protocol": "lab", "epochs": 3, "batch": 7, "randaugment": {"magnitude": 9}}
    )
    assert resolve_student({}, "lab") == expected
    found = fastdd.resolve(
        str(Path(__file__).parent / "three_arms.yaml"), ["student.protocol=lab", "magnitude=4"]
    ).student
    assert (found.epochs, found.steps, found.batch, found.network) == (3, None, 7, "resnet8")
    assert found.randaugment is not None
    assert found.randaugment.magnitude == 4


@pytest.mark.usefixtures("few_protocols")
@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("rded", {}, "there is a protocol 'rded' already; register yours under another name"),
        ("my lab", {}, "'my lab' cannot name a protocol"),
        ("lab", {"epohcs": 3}, "protocol lab: unknown key epohcs (did you mean 'epochs'?)"),
        ("lab", {"optimiser": "sgd"}, "protocol lab: unknown key optimiser (did you mean 'optimizer'?)"),
        (
            "lab",
            {"batch": 0},
            "protocol lab: batch: input should be greater than or equal to 1 or 'by_ipc' or 'by_images', "
            "got 0",
        ),
        ("lab", {"randaugment": {"magnitude": 11}}, "protocol lab: randaugment.magnitude: input should be"),
        ("lab", {"epochs": 3, "steps": 3}, "give one of steps and epochs"),
        ("lab", [("epochs", 3)], "protocol lab must be a mapping of keys of `student`"),
    ],
)
def test_a_bad_protocol_is_one_error_when_it_is_registered(name: str, values: object, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        fastdd.register_protocol(name, values)  # type: ignore[arg-type]
    assert "lab" not in PROTOCOLS


def test_a_protocol_of_another_package_is_found_by_its_entry_point(tmp_path: Path) -> None:
    (tmp_path / "their_lab.py").write_text("LAB = {'epochs': 3, 'batch': 7}\nBAD = {'epohcs': 3}\n")
    info = tmp_path / "their_lab-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-lab\nVersion: 1.0\n")

    def resolved(entry: str) -> tuple[str, str]:
        (info / "entry_points.txt").write_text(f"[fastdd.protocols]\nlab = their_lab:{entry}\n")
        program = (
            f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
            "from fastdd.recipes.students import resolve_student\n"
            "print(resolve_student({}, 'lab').epochs)"
        )
        return forked.start("-c", program, modules=forked.PRELOADED).communicate()

    assert resolved("LAB")[0] == "3\n"
    assert "protocol lab: unknown key epohcs (did you mean 'epochs'?)" in resolved("BAD")[1]

"""What people name is printed as they wrote it: no text is markup, and no line is broken within a path."""

from __future__ import annotations

import io
import shutil
import sys
from pathlib import Path

import pytest
from rich.table import Table

import fastdd
from fastdd.cli import main
from fastdd.cli.console import say, show_table
from fastdd.errors import InputError
from fastdd.runtime.console import counted
from fastdd.runtime.progress import _Rich

PACKAGE = Path(fastdd.__file__).parent
NAMES = ("out a[b]", "[/b]", "[red]x[/red]", ":smile:", "[link=x]", "\\[b]", "a" * 300)


@pytest.mark.parametrize("name", NAMES)
def test_text_and_cells_are_printed_as_they_stand(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    say(f"open {name}/report.html")
    assert capsys.readouterr().out == f"open {name}/report.html\n"
    if len(name) > 100:
        return
    rows = Table(name, box=None)
    rows.add_row(f"cell {name}")
    show_table(rows)
    assert [line.strip() for line in capsys.readouterr().out.splitlines()] == [name, f"cell {name}"]


def test_one_file_makes_the_console_and_the_command_prints_through_it() -> None:
    for file in PACKAGE.rglob("*.py"):
        text, name = file.read_text(), str(file.relative_to(PACKAGE))
        if name != "runtime/console.py":
            assert "rich.console" not in text, name
            assert "import rich" not in text, name
            assert "markup=True" not in text, name
        if name.startswith("cli/") and name != "cli/console.py":
            assert "console()" not in text, name


def test_titles_of_a_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    for name in NAMES[:-1]:
        assert main(["show", "digits", f"method.title={name}", f"description={name}"]) == 0
        assert capsys.readouterr().out.count(name) >= 3


def test_a_run_in_a_folder_with_brackets(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out a[b]" / "[" / "b]"
    shutil.copytree(finished, out)
    assert main(["run", str(finished.parent / "tiny.yaml"), "--out", str(out)]) == 0
    assert capsys.readouterr().out.endswith(f"open {out}/report.html\n")
    assert main(["report", str(out)]) == 0
    assert str(out) in capsys.readouterr().out
    assert main(["status", str(tmp_path / "no[/b]")]) == 2
    assert "no[/b]" in capsys.readouterr().err


def test_the_progress_bar_shows_text_as_it_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    bar = _Rich("recover [/b]", 3)
    bar.advance(3, "loss [/b] 1")
    bar.line("epoch [/b]")
    bar.close()
    assert "epoch [/b]" in stream.getvalue()


def test_an_error_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "di\ngits", "--out", str(tmp_path / "out")]) == 2
    assert main(["show", "digits", "a\nb=3"]) == 2
    assert main(["status", str(tmp_path / "a\nb")]) == 2
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 3
    assert all(line.startswith("error: ") for line in err.splitlines())


@pytest.mark.parametrize("name", ["../../escaped", "a/b", "..", ".", "", "/etc/x", "a\nb", "-x", "a\0b"])
def test_the_name_of_a_recipe_stays_within_the_folder_of_runs(name: str) -> None:
    with pytest.raises(InputError, match="name"):
        fastdd.resolve("digits", [f"name={name}"])
    assert fastdd.resolve("digits", ["name=my run.2 (ü)"]).name == "my run.2 (ü)"


def test_one_of_a_thing_is_no_plural() -> None:
    assert counted(1, "seed") == "1 seed"
    assert [counted(0, "image"), counted(2, "class"), counted("by_ipc", "image")] == [
        "0 images",
        "2 classes",
        "by_ipc images",
    ]

"""The notebooks run from their first cell to their last, and become .ipynb files."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import forked
import pytest

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"


def output(name: str, folder: Path, **values: object) -> str:
    """What a notebook prints as a script, with some of the values of its first cell changed."""
    text = (NOTEBOOKS / name).read_text()
    for key, value in values.items():
        text, found = re.subn(
            rf"^{key} = .*$", lambda match, v=value, k=key: f"{k} = {v!r}", text, flags=re.M
        )
        assert found == 1, key
    (folder / name).write_text(text)
    return forked.output(folder / name, folder=folder, environment={"MPLBACKEND": "Agg"})


def test_digits_end_to_end_at_small_size(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    students = ("student", "students.convnet-soft", "students.resnet-soft")
    short = [*(f"{name}.steps=4" for name in students), "metrics.full_set=false", "arms.dm.steps=20"]
    short += ["teacher.epochs=1", "teacher.minimum_accuracy=0"]
    printed = output("digits.py", tmp_path, ARMS=["dm"], OVERRIDES=short, STEPS=20)
    assert [line.split(":")[0] for line in printed.splitlines()[-2:]] == ["random", "dm"]
    assert (tmp_path / "runs/notebook-digits/report.html").is_file()


def test_the_losses_alone_agree_with_hooks_and_dire_spreads_a_class(tmp_path: Path) -> None:
    printed = output("losses.py", tmp_path, STEPS=60)
    without, dire = (float(found) for found in re.findall(r"cosine (-?[\d.]+)", printed))
    assert dire < without


def test_a_finished_run_is_read(tmp_path: Path, finished: Path) -> None:
    pytest.importorskip("matplotlib")
    printed = output("reading_a_run.py", tmp_path, RUN=str(finished))
    for arm in ("random", "sre2l", "deda", "sre2l+dire"):
        assert f"{arm} LoadedSet(20 images of 10 classes" in printed


def test_the_scripts_become_notebooks(tmp_path: Path) -> None:
    if not shutil.which("jupytext") or not shutil.which("bash"):
        pytest.skip("needs jupytext")
    subprocess.run([NOTEBOOKS / "convert", tmp_path], check=True)
    scripts = sorted(path.stem for path in NOTEBOOKS.glob("*.py"))
    assert scripts == ["digits", "losses", "reading_a_run"]
    for name in scripts:
        cells = json.loads((tmp_path / f"{name}.ipynb").read_text())["cells"]
        assert [cell["cell_type"] for cell in cells[:2]] == ["markdown", "code"]
        assert len(cells) > 6

"""What people type and have: a mistake is one line that says what was meant, and before torch is loaded."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy
import pytest
import torch

import fastdd
from fastdd.cli import main
from fastdd.config.downloads import origin_of
from fastdd.errors import InputError
from fastdd.run_folder import RunFolder
from fastdd.runs.pipeline import RunResult
from fastdd.runtime.files import write_bytes
from fastdd.runtime.seeds import seeded


def refused(capsys: pytest.CaptureFixture[str], *command: str | Path) -> str:
    """The one line of a command that ends with status 2."""
    capsys.readouterr()
    assert main([str(word) for word in command]) == 2
    text = capsys.readouterr().err
    assert text.startswith("error: "), text
    assert text.count("\n") == 1
    return text


# -- data that are not there ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("recipe", "name", "place"),
    [
        ("cifar10-deda", "cifar10.tar.xz", "cs.toronto.edu"),
        ("tiny-deda", "tiny-imagenet-200", "cs231n.stanford.edu"),
        ("imagenette-deda", "imagenette2-320", "github.com/fastai/imagenette"),
        ("imagenet1k-deda", "imagenet", "image-net.org"),
    ],
)
def test_a_data_set_that_is_not_there_is_told_where_it_comes_from(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    recipe: str,
    name: str,
    place: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    text = refused(capsys, "run", recipe, "--out", "out")
    assert f"no data at {name!r}" in text
    assert place in text
    assert place in refused(capsys, "data", "check", name)
    assert not list(tmp_path.iterdir())


def test_the_other_data_set_of_a_papers_item_is_the_one_that_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    text = refused(capsys, "run", "deda-figure4", "dataset=imagenet1k")
    assert text.startswith("error: no data at 'imagenet' (ImageNet-1K")


def test_data_that_are_not_there_are_told_before_torch_is_loaded(tmp_path: Path) -> None:
    code = (
        "import sys, fastdd.cli\n"
        "status = fastdd.cli.main(['run', 'cifar10-deda', '--out', 'out'])\n"
        "sys.exit(9 if 'torch' in sys.modules else status)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: no data at 'cifar10.tar.xz'")


def test_only_well_known_sets_have_an_origin() -> None:
    assert not origin_of("photos")
    assert "cifar.html" in origin_of("/data/CIFAR-10")


# -- sets and recipes that are not there ------------------------------------------------------------------


def test_a_mistyped_folder_does_not_exist(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("theirs").mkdir()
    text = refused(capsys, "evaluate", "their/")
    assert "their/ does not exist, and no recipe has that name (did you mean 'theirs'?)" in text
    assert "(did you mean 'digits'?)" in refused(capsys, "evaluate", "digts")
    for command in (
        ("metrics", "their", "--real", "digits"),
        ("export", "their", "--to", "hf"),
        ("robust", "their"),
    ):
        assert "no distilled set at 'their', which does not exist (did you mean 'theirs'?)" in refused(
            capsys, *command
        )
    Path("file").touch()
    text = refused(capsys, "metrics", "file", "--real", "digits")
    assert "which is no folder; expected" in text, "a name is no suggestion in place of itself"


# -- overrides ----------------------------------------------------------------------------------------------

SECTIONS = ["arms=", "arms=deda", "committee={}", "committee=", "students=", "arms.deda="]


@pytest.mark.parametrize("text", SECTIONS)
def test_a_section_is_no_value_of_an_override(text: str) -> None:
    with pytest.raises(InputError) as caught:
        fastdd.resolve("digits", [text])
    key = text.partition("=")[0]
    assert str(caught.value).startswith(f"{key!r} is a section ")
    assert "and an override gives one value in it, such as " in str(caught.value)


def test_one_text_is_no_list_of_overrides(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"overrides must be a list of texts, .* got 'ipc=3'"):
        fastdd.run("digits", tmp_path / "out", "ipc=3")


# -- what Python gets ---------------------------------------------------------------------------------------


def test_a_result_shows_its_folder_alone(tmp_path: Path, finished: Path) -> None:
    from fastdd.run_folder import read_manifest

    run = RunFolder(finished)
    result = RunResult(run, read_manifest(run))
    assert repr(result) == f"RunResult({str(finished)!r})"
    arms = "['random', 'sre2l', 'deda', 'sre2l+dire']"
    assert repr(result.metrics) == f"Metrics(recipe='tiny', ipc=2, arms={arms})"


def test_the_caller_keeps_the_state_of_random_generators() -> None:
    def draws() -> tuple[object, ...]:
        return random.random(), float(numpy.random.rand()), torch.rand(2).tolist()

    random.seed(1), numpy.random.seed(1), torch.manual_seed(1)
    wanted = [draws(), draws()]
    random.seed(1), numpy.random.seed(1), torch.manual_seed(1)
    found = [draws()]
    with seeded(5):
        inside = draws()
    found.append(draws())
    assert found == wanted
    with seeded(5):
        assert draws() == inside


def test_a_run_leaves_the_random_generators_of_its_caller(tiny: Path, finished: Path) -> None:
    before = torch.get_rng_state(), random.getstate()
    with pytest.raises(InputError):
        fastdd.run(tiny, finished, ["ipc=3"])
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]


# -- folders and files that cannot be written ---------------------------------------------------------------


def test_places_where_no_run_can_be(tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    long = tmp_path / ("n" * 300)
    for command in (("run", tiny, "--out", long), ("evaluate", long), ("status", long), ("report", long)):
        assert "File name too long" in refused(capsys, *command)
    assert "cannot write /proc/run: " in refused(capsys, "run", tiny, "--out", "/proc/run")
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    assert "file is no folder; move it away" in refused(capsys, "run", tiny, "--out", tmp_path / "file" / "x")
    assert "link is no folder; move it away" in refused(capsys, "run", tiny, "--out", tmp_path / "link")


def test_a_folder_where_a_file_belongs_and_a_file_too_large(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(InputError, match="a folder is in its place; move that away"):
        write_bytes(tmp_path / "a", b"x")
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "from pathlib import Path\n"
        "from fastdd.runtime.files import write_bytes\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "write_bytes(Path(sys.argv[1]), bytes(2_000_000))"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "b"], capture_output=True, text=True)
    assert "b (2.0 MB) may be written here; raise the limit (`ulimit -f`)" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_errors_of_the_system_are_one_line_that_names_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def locked(*_: object) -> bool:  # permissions do not hold for the superuser
        raise PermissionError(13, "Permission denied", "/data/run/recipe.yaml")

    monkeypatch.setattr(Path, "exists", locked)
    assert "/data/run/recipe.yaml cannot be used: Permission denied" in refused(capsys, "status", tmp_path)


def test_images_behind_a_link_are_left_to_their_owner(
    pets: Path, pets_recipe: Callable[[Path], Path], tmp_path: Path, finished: Path
) -> None:
    import shutil

    from fastdd.run_folder import delete_run

    out, theirs = Path(shutil.copytree(finished, tmp_path / "out")), tmp_path / "theirs"
    (out / "images").rename(theirs)
    (out / "images").symlink_to(theirs)
    kept = len(list(theirs.rglob("*.png")))
    delete_run(out)
    assert not list(out.iterdir())
    assert len(list(theirs.rglob("*.png"))) == kept > 0

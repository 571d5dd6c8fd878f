"""Damaged files of a run folder: one line names the file, and deleting what it names is enough."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from pydantic import BaseModel
from safetensors.torch import load_file, save_file

import fastdd
from fastdd.bank import Bank
from fastdd.cli import main
from fastdd.distilled.images import how_to_redo
from fastdd.errors import InputError
from fastdd.run_folder import RunFolder, TensorFile, read, reading
from fastdd.runtime.files import write_tensors


class Length(BaseModel):
    """A made-up content of a file."""

    meters: int


@pytest.fixture
def out(finished: Path, tmp_path: Path) -> Path:
    """A finished run that a test may change; its recipe lies beside it."""
    shutil.copy(finished.parent / "tiny.yaml", tmp_path)
    return Path(shutil.copytree(finished, tmp_path / "out"))


def refused(capsys: pytest.CaptureFixture[str], *command: str | Path) -> str:
    """The one line of a command that ends with status 2."""
    capsys.readouterr()
    assert main([str(word) for word in command]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines[-1].startswith("error: ")
    assert "--fresh" not in lines[-1]
    return lines[-1]


# -- the reader -------------------------------------------------------------------------------------


def error_of(act: Callable[[], object]) -> str:
    with pytest.raises(InputError) as caught:
        act()
    return str(caught.value)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it is empty"),
        (b'{"meters": ', "invalid JSON: EOF"),
        (b'{"meters": "3"}', "meters: input should be a valid integer"),
        (b'{"meters": 3.0}', "meters: input should be a valid integer"),
        (b'{"meters": true}', "meters: input should be a valid integer"),
        (b"[" * 100_000, "invalid JSON: recursion limit"),
        (b"3", "input should be an object"),
        (b"\xff", "it is no UTF-8 text: byte 0"),
    ],
)
def test_json_that_is_not_of_its_type(tmp_path: Path, content: bytes, reason: str) -> None:
    file = tmp_path / "length.json"
    file.write_bytes(content)
    text = error_of(lambda: read(file, Length))
    assert text.startswith(f"{file} is damaged ({reason}"), text
    assert text.endswith(f"; {reading.DELETE}")


def test_what_is_no_readable_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a"
    for act in (lambda: read(file, Length), lambda: TensorFile(file)):
        assert "is missing, so the run is not finished" in error_of(act)
        file.mkdir()
        assert f"{file} is a folder, where a file belongs; move it away" in error_of(act)
        file.rmdir()
        file.symlink_to(file)
        assert f"{file} cannot be read (Too many levels of symbolic links); delete it" in error_of(act)
        file.unlink()

    def locked(path: Path, mode: str) -> None:  # permissions do not hold for the superuser
        raise PermissionError(13, "Permission denied", str(path))

    file.write_text('{"meters": 3}')
    monkeypatch.setattr(reading, "open", locked, raising=False)
    for act in (lambda: read(file, Length), lambda: TensorFile(file)):
        assert f"{file} exists and cannot be read (Permission denied); change its permissions" in error_of(
            act
        )


def test_a_pipe_is_no_file_and_does_not_hang(tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "pipe")
    assert "pipe is no plain file" in error_of(lambda: read(tmp_path / "pipe", Length))


def test_a_text_of_gigabytes_is_not_read(tmp_path: Path) -> None:
    with open(tmp_path / "large", "wb") as file:
        file.truncate(1 << 40)
    assert "it has 1099512 MB" in error_of(lambda: read(tmp_path / "large", Length))


def test_tensors_that_are_not_what_they_should_be(tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    write_tensors(file, {"x": torch.zeros(2, 3), "n": torch.arange(2), "bad": torch.tensor([1.0, torch.nan])})
    stored = TensorFile(file)
    stored.require({"x": (2, -1), "n": (2,)}, integers=["n"])
    for shapes, reason in (
        ({"y": (2, 3)}, "it has no 'y'"),
        ({"x": (2, 4)}, "'x' is [2, 3], expected [2, 4]"),
        ({"x": (-1,)}, "'x' is [2, 3], expected [n]"),
        ({"n": (2,)}, "'n' holds integers, expected fractions"),
    ):
        assert error_of(lambda shapes=shapes: stored.require(shapes)) == (
            f"{file} is damaged ({reason}); {reading.DELETE}"
        )
    assert "'bad' holds NaN or infinite values" in error_of(stored.tensors)
    assert "'x' has 2 rows, expected 3" in error_of(lambda: stored.rows("x", 2, 3))
    assert "its metadata have no 'note'" in error_of(lambda: stored.note("note", Length))
    write_tensors(file, {"x": torch.zeros(2)}, {"note": '{"meters": "long"}'})
    assert "its metadata: meters: input should be" in error_of(lambda: TensorFile(file).note("note", Length))
    for content in (b"", b"\0" * 7, b"\xff" * 8, file.read_bytes()[:-1], file.read_bytes() + b"x"):
        file.write_bytes(content)
        assert error_of(lambda: TensorFile(file)).startswith(f"{file} is damaged (")


# -- a run ------------------------------------------------------------------------------------------


def poisoned(file: Path, name: str) -> None:
    """Put a NaN into a tensor of a file."""
    tensors = load_file(file)
    tensors[name].flatten()[0] = torch.nan
    with open(file, "rb") as opened:
        header = json.loads(opened.read(int.from_bytes(opened.read(8), "little")))
    save_file(tensors, file, header.get("__metadata__"))


@pytest.mark.parametrize("damage", ["cut", "nan"])
def test_damaged_embeddings_are_made_again_when_they_are_deleted(
    out: Path, capsys: pytest.CaptureFixture[str], damage: str, one_thread: None
) -> None:
    file = RunFolder(out).embeddings
    whole = file.read_bytes()
    if damage == "cut":
        file.write_bytes(whole[: len(whole) // 2])
    else:
        poisoned(file, "deda")
    assert f"error: {file} is damaged (" in (text := refused(capsys, "report", out))
    assert "delete it and start the same `fastdd run` command again" in text
    file.unlink()
    fastdd.run(out.parent / "tiny.yaml", out)
    assert file.read_bytes() == whole


@pytest.mark.parametrize("damage", ["cut", "nan", "gone"])
def test_a_damaged_shard_of_a_bank_is_made_again_alone(
    out: Path, capsys: pytest.CaptureFixture[str], damage: str, one_thread: None
) -> None:
    run, again = RunFolder(out), ("run", out.parent / "tiny.yaml", "--out", out)
    run.unit("deda", 0).unlink()
    (file,) = run.bank().glob("*.safetensors")
    whole, manifest = file.read_bytes(), (run.bank() / "manifest.json").read_bytes()
    if damage == "cut":
        file.write_bytes(whole[:-100])
    elif damage == "nan":
        poisoned(file, next(name for name in load_file(file) if name.endswith("/mean")))
    if damage != "gone":
        text = refused(capsys, *again)
        assert f"error: {file} is damaged (" in text
        assert "delete it and start the command that built the bank again, which makes that alone" in text
        file.unlink()
    assert main([str(word) for word in again]) == 0
    (file,) = run.bank().glob("*.safetensors")
    assert file.read_bytes() == whole
    assert (run.bank() / "manifest.json").read_bytes() == manifest


def test_a_damaged_manifest_of_a_bank_is_written_again(out: Path, one_thread: None) -> None:
    file = RunFolder(out).bank() / "manifest.json"
    whole = file.read_bytes()
    content = json.loads(whole)
    for key, value, reason in (
        ("counts", [1], "its classes, images, counts and embeddings are not as many"),
        ("shards", [[0, 3], [5, 9]], "its shards are not those of 10 classes"),
        ("layers", {"x": "3"}, "layers.x: input should be a valid integer"),
    ):
        file.write_text(json.dumps(content | {key: value}))
        assert reason in error_of(lambda: Bank.open(file.parent))
    file.unlink()
    fastdd.run(out.parent / "tiny.yaml", out)
    assert file.read_bytes() == whole


@pytest.mark.parametrize("name", ["recipe.yaml", "data.json", "metrics.json", "manifest.json"])
def test_what_a_damaged_file_says_to_delete_is_enough(
    out: Path, capsys: pytest.CaptureFixture[str], name: str, one_thread: None
) -> None:
    file = out / name
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2].rpartition(b"\n")[0])  # whole lines: half a recipe is YAML
    command = ("export", out, "--arm", "deda", "--to", "imagefolder", "--out", out.parent / "set")
    text = refused(capsys, *command)
    if name == "recipe.yaml":  # half of it is another recipe
        assert f"error: {file} was edited" in text
        assert "delete the file" in text
    else:
        assert f"error: {file} is damaged (" in text
        assert text.endswith(f"; {reading.DELETE}")
    file.unlink()
    fastdd.run(out.parent / "tiny.yaml", out)
    if name != "manifest.json":  # it says when and where
        assert file.read_bytes() == whole
    assert main([str(word) for word in command]) == 0


def test_a_run_that_lost_its_recipe_is_continued_with_no_other(out: Path) -> None:
    (out / "recipe.yaml").unlink()
    text = error_of(lambda: fastdd.run(out.parent / "tiny.yaml", out, ["ipc=3"]))
    assert "is no run folder" in text


def test_aliases_in_the_recipe_of_a_run_are_no_bomb(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lists = [f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 9)}]" for i in range(1, 10)]
    (out / "recipe.yaml").write_text("\n".join(["l0: &l0 [x]", *lists]))
    assert "recipe.yaml is damaged (it is not valid YAML: line 2" in refused(capsys, "status", out)
    assert "recipe.yaml is damaged" in refused(capsys, "run", out.parent / "tiny.yaml", "--out", out)


def test_times_that_a_new_manifest_does_not_know_are_not_told(
    out: Path, capsys: pytest.CaptureFixture[str], one_thread: None
) -> None:
    (out / "manifest.json").unlink()
    assert main(["run", str(out.parent / "tiny.yaml"), "--out", str(out)]) == 0
    told = capsys.readouterr().out
    assert "seconds:" not in told
    assert " 0.0 " not in told
    assert main(["report", str(out)]) == 0
    page = (out / "report.html").read_text()
    assert "for all stages" not in page
    assert "<h2>Time</h2>" not in page


def test_a_folder_in_the_place_of_an_image_is_moved_away(
    out: Path, capsys: pytest.CaptureFixture[str], one_thread: None
) -> None:
    image, again = (
        RunFolder(out).image("deda", "3", 1, "png"),
        ("run", out.parent / "tiny.yaml", "--out", out),
    )
    whole = image.read_bytes()
    image.unlink()
    image.mkdir()
    text = refused(capsys, *again)
    assert (
        f"{image} is a folder, where an image belongs; move it away, then delete {out}/recover/deda/" in text
    )
    image.rmdir()
    Path(text.split("delete ")[1].split(" and start")[0]).unlink()
    assert main([str(word) for word in again]) == 0
    assert image.read_bytes() == whole


def test_an_image_whose_unit_is_not_finished_needs_no_deletion(
    out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = RunFolder(out)
    run.image("deda", "3", 1, "png").write_bytes(b"x")
    for log in run.units("deda"):
        log.unlink()
    export = ("export", out, "--arm", "deda", "--to", "imagefolder", "--out", out.parent / "set")
    assert "; start the same `fastdd run` command again, which makes it" in refused(capsys, *export)
    run.data.write_bytes(b"")  # it tells which unit an image is of
    text = how_to_redo(run.image("deda", "3", 1, "png"))
    assert text.endswith(f"{run.data} is damaged (it is empty); {reading.DELETE}")


def test_a_bank_of_another_teacher_is_deleted_and_not_the_run(out: Path) -> None:
    text = error_of(lambda: Bank.open(out / "bank").require("another", "data"))
    assert text.endswith("; delete that folder, and the same command builds it anew")


def test_a_recipe_edited_in_the_run_folder_is_refused_by_all_that_read_it(
    out: Path, capsys: pytest.CaptureFixture[str], one_thread: None
) -> None:
    file, tiny = out / "recipe.yaml", out.parent / "tiny.yaml"
    whole = file.read_text()
    file.write_text(whole.replace("ipc: 2", "ipc: 1"))
    export = ("export", out, "--arm", "deda", "--to", "imagefolder", "--out", out.parent / "set")
    for command in (("run", file, "--out", out), ("run", tiny, "--out", out), ("status", out), export):
        assert f"error: {file} was edited after the run began" in refused(capsys, *command)
    file.unlink()  # as the line says
    fastdd.run(tiny, out)
    assert file.read_text() == whole
    assert main([str(word) for word in export]) == 0


def test_the_place_of_the_data_may_be_edited_where_they_have_moved(
    out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = yaml.safe_load((out / "recipe.yaml").read_text())
    document["data"]["root"] = "elsewhere"
    (out / "recipe.yaml").write_text(yaml.safe_dump(document, sort_keys=False))
    assert main(["status", str(out)]) == 0

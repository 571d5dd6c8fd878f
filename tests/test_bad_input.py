"""Bad input: one clear error, early, with nothing written over; and how the command reports it."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from forked import Program
from safetensors.torch import load_file

import fastdd
from fastdd.cli import main
from fastdd.errors import InputError
from fastdd.models.build import build
from fastdd.run_folder import RunFolder
from fastdd.runtime.files import write_bytes, write_tensors
from fastdd.teachers import Card, Teacher, save_teacher

Process = Callable[..., Program]


def content(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def message(recipe: str | Path, out: Path, *overrides: str, **arguments: Any) -> str:
    """The error of a run that must leave the folder as it is."""
    before = content(out) if out.is_dir() else None
    with pytest.raises(InputError) as caught:
        fastdd.run(str(recipe), out, overrides, **arguments)
    assert (content(out) if out.is_dir() else None) == before
    return str(caught.value)


# -- bad input ------------------------------------------------------------------------------------


def test_unknown_recipe_key_and_device(tmp_path: Path, tiny: Path) -> None:
    out = tmp_path / "out"
    assert "unknown recipe 'digts'" in message("digts", out)
    assert "unknown key 'ipcc'" in message(tiny, out, "ipcc=3")
    assert "unknown addition 'x'" in message(tiny, out, add=["x"])
    assert "device 'warp'" in message(tiny, out, "device=warp")
    if not torch.cuda.is_available():
        assert "device=cpu" in message(tiny, out, "device=cuda")
    assert not out.exists()


def test_bad_data(pets: Path, pets_recipe: Callable[[Path], Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    recipe = pets_recipe(pets)

    def refused(*overrides: str) -> str:
        text = message(recipe, out, *overrides)
        assert not out.exists()
        return text

    assert "no data" in refused("data.root=/nowhere/at/all") or "nowhere" in refused(
        "data.root=/nowhere/at/all"
    )
    (tmp_path / "empty").mkdir()
    assert "is empty" in refused(f"data.root={tmp_path / 'empty'}")
    assert "'cat' holds 8 images" in refused("ipc=9")
    assert "metrics.nearest_k is 16" in refused("metrics.nearest_k=16")
    for split in ("train", "test"):
        (pets / split / "owl").mkdir()
    assert "owl' holds no images" in refused()
    for split in ("train", "test"):
        (pets / split / "owl").rmdir()


@pytest.mark.parametrize("name", ["train/cat/3.png", "test/dog/1.png"])
def test_an_unreadable_image_is_named(
    pets: Path, pets_recipe: Callable[[Path], Path], tmp_path: Path, name: str
) -> None:
    recipe = pets_recipe(pets)
    (pets / name).write_bytes(b"no image")
    with pytest.raises(InputError, match=rf"{name}.*fastdd data check"):
        fastdd.run(recipe, tmp_path / "out")
    assert not (tmp_path / "out" / "teacher.safetensors").exists()


def test_networks_that_cannot_do_it(tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert "unknown network 'resnet21'" in message(tiny, out, "teacher.network=resnet21")
    assert "unknown network 'resnet21'" in message(tiny, out, "student.network=resnet21")
    assert "takes 3 channels" in message(tiny, out, "student.network=resnet18")
    color = ("data.channels=3", "teacher.mean=[0.3, 0.3, 0.3]", "teacher.std=[0.4, 0.4, 0.4]")
    assert "student.network: vgg11_bn cannot take images of 3 x 8 x 8" in message(
        tiny, out, *color, "student.network=vgg11_bn"
    )
    stages = ("method.terms.gaussian.layers=stages", "data.size=32")
    assert "VGG has no stages layer1" in message(tiny, out, *color, "teacher.network=vgg11_bn", *stages)
    assert not out.exists()


@pytest.mark.slow
def test_teachers_that_do_not_fit(tiny: Path, finished: Path, tmp_path: Path) -> None:
    out, path = tmp_path / "out", tmp_path / "t.safetensors"
    given = f"teacher.weights={path}"
    assert "t.safetensors does not exist" in message(tiny, out, given)
    torch.save({"a": torch.zeros(2)}, path)
    assert "no resnet8: tensor 'bn1.bias' is missing" in message(tiny, out, given)
    state = load_file(finished / "teacher.safetensors")
    write_tensors(path, {**state, "conv1.weight": torch.zeros(16, 3, 3, 3)})
    assert "conv1.weight is [16, 3, 3, 3], expected [16, 1, 3, 3]" in message(tiny, out, given)
    write_tensors(path, build("resnet8", 7, 1).state_dict())
    assert "number of classes differs" in message(tiny, out, given)
    card = Card("resnet8", tuple("abcdefghij"), 1, (0.305,), (0.376,))
    save_teacher(path, Teacher(build("resnet8", 10, 1), card))
    assert "was made for other classes: class 0 is 'a' there and '0' in the data" in message(tiny, out, given)
    assert not out.exists()


def test_a_given_teacher_below_the_bar(tiny: Path, finished: Path, tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"test accuracy here, expected at least teacher\.minimum_accuracy = 100"
    ):
        fastdd.run(
            tiny,
            tmp_path / "out",
            [f"teacher.weights={finished / 'teacher.safetensors'}", "minimum_accuracy=1"],
        )
    assert not (tmp_path / "out" / "teacher.safetensors").exists()


def test_a_given_teacher_is_used(tiny: Path, finished: Path, tmp_path: Path, one_thread: None) -> None:
    given = f"teacher.weights={finished / 'teacher.safetensors'}"
    fastdd.run(tiny, tmp_path / "out", [given], until="recover")
    ours, theirs = (content(folder / "images") for folder in (tmp_path / "out", finished))
    assert ours == theirs


def test_a_folder_of_another_recipe(finished: Path, tmp_path: Path) -> None:
    tiny, out = finished.parent / "tiny.yaml", tmp_path / "out"
    shutil.copytree(finished, out)
    text = message(tiny, out, "ipc=3", "method.lr=0.7", "data.resize=40")
    assert "ipc: 2 there, 3 now" in text
    assert "arms.deda.lr: 0.02 there, 0.7 now" in text
    assert "data.resize: null there, 40 now" in text
    assert "--fresh" in text
    (out / "notes.txt").write_text("mine")
    fastdd.run(tiny, out, ["ipc=3"], fresh=True, until="squeeze")
    assert yaml.safe_load((out / "recipe.yaml").read_text())["ipc"] == 3
    made = {"recipe.yaml", "manifest.json", "log.jsonl", "data.json", "squeeze.json"}
    made |= {"teacher.safetensors", "scores.safetensors"}
    assert set(content(out)) == {*made, "notes.txt"}


def test_a_run_of_an_earlier_version_is_told_apart_by_its_recipe(
    tiny: Path, finished: Path, tmp_path: Path
) -> None:
    shutil.copytree(finished, tmp_path / "out")
    document = yaml.safe_load((finished / "recipe.yaml").read_text())
    del document["bank"]
    (tmp_path / "out" / "recipe.yaml").write_text(yaml.safe_dump(document))
    manifest = json.loads((finished / "manifest.json").read_text())
    del manifest["settings_hash"]  # which such a version did not write
    (tmp_path / "out" / "manifest.json").write_text(json.dumps(manifest))
    text = message(tiny, tmp_path / "out")
    assert "holds a run of another recipe" in text
    assert "bank.batch: not set there" in text


def test_a_run_folder_of_an_earlier_version_is_refused_with_one_line(
    tiny: Path, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    manifest = json.loads((out / "manifest.json").read_text())
    del manifest["format"]
    (out / "manifest.json").write_text(json.dumps(manifest))
    said = "was made by an earlier version of fastdd (run folder format 1, this version has 2); "
    remedy = "choose another folder with --out, or start over with --fresh, which deletes the run there"
    assert message(tiny, out) == f"{out} {said}{remedy}"
    assert main(["status", str(out)]) == 2
    assert capsys.readouterr().err == f"error: {out} {said}make the run again in another folder\n"
    fastdd.run(tiny, out, fresh=True, until="squeeze")
    assert json.loads((out / "manifest.json").read_text())["format"] == 2
    assert not (out / "images").exists()


def test_changed_data_are_refused(pets: Path, pets_recipe: Callable[[Path], Path], tmp_path: Path) -> None:
    recipe = pets_recipe(pets)
    fastdd.run(recipe, tmp_path / "out", until="squeeze")
    (pets / "train" / "cat" / "3.png").rename(pets / "train" / "cat" / "33.png")
    text = message(recipe, tmp_path / "out")
    assert "made from another train: fingerprint" in text


def test_folders_that_are_no_run(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    assert "is a file" in message(tiny, tmp_path / "file")
    assert "cannot write" in message(tiny, tmp_path / "file" / "below")
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.txt").write_text("years of work")
    for fresh in (False, True):
        assert "is no run folder" in message(tiny, foreign, fresh=fresh)
        # a recipe that a person wrote does not make the folder a run
        shutil.copy(tiny, foreign / "recipe.yaml")
        assert "is no run folder" in message(tiny, foreign, fresh=fresh)


def test_a_full_disk(tiny: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    out = tmp_path / "out"
    shutil.copytree(finished, out)
    (out / "metrics.json").unlink()
    (out / "embeddings.safetensors").unlink()
    monkeypatch.setattr(os, "fsync", full)
    text = message(finished.parent / "tiny.yaml", out)
    assert "no space left" in text
    assert "finished work is kept" in text
    (out / "x").write_bytes(b"old")
    with pytest.raises(InputError, match=r"no space left for .*x"):
        write_bytes(out / "x", b"new")
    assert (out / "x").read_bytes() == b"old"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_under_the_log(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vars(RunFolder)["log"], "name", "/dev/full")
    with pytest.raises(InputError, match="no space left for /dev/full"):
        fastdd.run(tiny, tmp_path / "out")


# -- the command ----------------------------------------------------------------------------------


def test_errors_go_to_stderr_with_status_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["run", "digts"], ["show", "digits", "ipc=zero"], ["run", "digits", "--out", __file__]):
        assert main(arguments) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith("error: ")
        assert "Traceback" not in err
        assert err.count("\n") == 1
    assert main(["report", str(tmp_path / "no")]) == 2
    for arguments in (["run"], ["run", "digits", "--ipc=3"], ["distil", "digits"]):
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == 2
        assert "usage: fastdd" in capsys.readouterr().err


def test_the_process_ends_with_status_2(tmp_path: Path, fastdd_process: Process) -> None:
    process = fastdd_process("run", "digits", "data.root=/nowhere", "--out", tmp_path / "out")
    out, err = process.communicate(timeout=120)
    assert process.returncode == 2
    assert out == ""
    assert "error: " in err
    assert "Traceback" not in err
    assert not (tmp_path / "out").exists()


def test_data_check(pets: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "check", str(pets)]) == 0
    (pets / "train" / "cat" / "0.png").write_bytes(b"")
    assert main(["data", "check", str(pets)]) == 1
    assert "cat/0.png" in capsys.readouterr().out

"""The whole path: one command, its run folder, bad input, and `kill -9` at any moment."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

import fastdd
from fastdd import files, runfolder
from fastdd.cli import main
from fastdd.errors import InputError
from fastdd.files import write_bytes, write_tensors
from fastdd.recipe import Recipe
from fastdd.teachers import Card, Teacher, build, save_teacher

Process = Callable[..., "subprocess.Popen[str]"]
ARMS = ("random", "sre2l", "deda", "sre2l+dire")
VARYING = {"manifest.json", "log.jsonl", "report.html"}
"""files that hold times or facts of the machine; all others are results"""

ROOT = Path(__file__).parents[1]


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def results(folder: Path) -> dict[str, str]:
    """File -> hash, without the files that hold times."""
    found = {name: hashlib.sha256(data).hexdigest() for name, data in content(folder).items()}
    return {name: digest for name, digest in found.items() if name not in VARYING}


def message(recipe: str | Path, out: Path, *overrides: str, **arguments: Any) -> str:
    """The error of a run that must leave the folder as it is."""
    before = content(out) if out.is_dir() else None
    with pytest.raises(InputError) as caught:
        fastdd.run(str(recipe), out, overrides, **arguments)
    assert (content(out) if out.is_dir() else None) == before
    return str(caught.value)


# -- a finished run -------------------------------------------------------------------------------


def test_the_run_folder(finished: Path) -> None:
    names = set(content(finished))
    units = {"random": 1, "sre2l": 2, "deda": 3, "sre2l+dire": 1}
    expected = {
        "recipe.yaml", "manifest.json", "metrics.json", "log.jsonl", "report.html", "teacher.safetensors",
        "embeddings.safetensors", "bank/manifest.json", "bank/statistics.safetensors", "bank/embeddings.safetensors",
    }  # fmt: skip
    for arm in ARMS:
        expected |= {f"images/{arm}/{c}/{slot:05d}.png" for c in range(10) for slot in range(2)}
        expected |= {f"recover/{arm}/unit_{i:05d}.json" for i in range(units[arm])}
        expected |= {f"students/{arm}/seed_{seed}.json" for seed in range(2)}
        expected.add(f"labels/{arm}.safetensors")
    assert names == expected


def test_metrics(finished: Path) -> None:
    metrics = json.loads((finished / "metrics.json").read_text())
    assert list(metrics["arms"]) == list(ARMS)
    assert (metrics["ipc"], metrics["k"], metrics["protocol"]["seeds"]) == (2, 5, 2)
    assert metrics["data"] == {"root": "digits", "train": 1438, "test": 359}
    assert metrics["classes"] == [str(c) for c in range(10)]
    assert 0.3 < metrics["teacher"]["accuracy"] <= 1
    for arm, values in metrics["arms"].items():
        students = [json.loads((finished / f"students/{arm}/seed_{seed}.json").read_text()) for seed in range(2)]
        assert values["last"] == [s["last"] for s in students]
        assert values["best"] == [s["best"] for s in students]
        assert values["curves"] == [s["curve"] for s in students]
        assert [step for step, _ in students[0]["curve"]] == [5, 10]
        assert len(values["vendi_by_class"]) == len(values["cosine_by_class"]) == 10
        assert 0 <= values["coverage"] <= 1 <= values["vendi"] <= 2
        assert -1 <= values["cosine"] <= 1
    assert metrics["arms"]["sre2l+dire"]["title"] == "SRe2L + DiRe"


def test_manifest_and_log(finished: Path) -> None:
    manifest = json.loads((finished / "manifest.json").read_text())
    assert set(manifest["fingerprints"]) == {"code", "train", "test", "teacher"}
    weights = hashlib.sha256((finished / "teacher.safetensors").read_bytes()).hexdigest()
    assert manifest["fingerprints"]["teacher"] == weights
    per_arm = {f"{stage} {arm}" for stage in ("recover", "label", "students") for arm in ARMS}
    assert set(manifest["stages"]) == {"squeeze", "bank", "report"} | per_arm
    assert all(stage["seconds"] >= 0 for stage in manifest["stages"].values())
    assert manifest["stages"]["recover deda"]["images"] == 20 * 10
    lines = [json.loads(line) for line in (finished / "log.jsonl").read_text().splitlines()]
    assert [line["event"] for line in lines] == ["begin", "end"] * (len(lines) // 2)


def test_the_saved_recipe_is_whole_and_runs_again(finished: Path) -> None:
    saved = Recipe.model_validate(yaml.safe_load((finished / "recipe.yaml").read_text()))
    assert saved == fastdd.resolve(str(finished.parent / "tiny.yaml"))


def test_losses_and_labels(finished: Path) -> None:
    unit = json.loads((finished / "recover/deda/unit_00000.json").read_text())
    assert unit["rows"] == [[c, slot] for c in range(4) for slot in range(2)]
    assert [entry["step"] for entry in unit["losses"]] == [0, 5, 9]
    assert set(unit["losses"][0]) == {"step", "ce", "gaussian", "variance", "covariance"}
    first, *_, last = (sum(entry.values()) - entry["step"] for entry in unit["losses"])
    assert last < first
    assert load_file(finished / "labels/deda.safetensors")["logits"].shape == (20, 10)
    embeddings = load_file(finished / "embeddings.safetensors")
    assert embeddings.keys() == {"real", "real_labels", *ARMS}
    assert embeddings["deda"].shape == (20, 64)


def test_table_progress_and_page(finished: Path) -> None:
    out, err = ((finished.parent / name).read_text() for name in ("stdout", "stderr"))
    for text in ("random real images", "SRe2L + DiRe", "coverage (k=5)", "protocol", "report.html", " ± "):
        assert text in out, text
    for stage in ("squeeze", "bank", "recover deda", "label deda", "students deda"):
        assert f"{stage}: " in err
    assert "images/s" in err
    assert "Traceback" not in err
    page = (finished / "report.html").read_text()
    assert "SRe2L + DiRe" in page
    assert "data:image/png;base64," in page


def test_the_second_run_does_nothing(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "out")

    def times() -> dict[Path, int]:
        return {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*") if p.name not in VARYING and p.is_file()}

    before = times()
    result = fastdd.run(str(finished.parent / "tiny.yaml"), tmp_path / "out")
    assert times() == before
    assert result.metrics == json.loads((finished / "metrics.json").read_text())
    assert result.path == tmp_path / "out"


# -- as a library ---------------------------------------------------------------------------------


def test_stages_one_by_one(tiny: Path, tmp_path: Path) -> None:
    steps = {
        "squeeze": "teacher.safetensors",
        "bank": "bank/manifest.json",
        "recover": "images/a+dire",
        "label": "labels",
    }
    tiny.write_text(
        tiny.read_text().split("arms:")[0] + "arms: {a: {method: deda}}\nstudent: {network: resnet8, steps: 2}"
    )
    out = tmp_path / "out"
    for index, (stage, made) in enumerate(steps.items()):
        result = fastdd.run(tiny, out, add=["dire"], until=stage)
        assert (out / made).exists()
        assert not any((out / later).exists() for later in list(steps.values())[index + 1 :])
        assert result.metrics == {}
    unit = json.loads((out / "recover/a+dire/unit_00000.json").read_text())
    assert {"gaussian", "cd", "cdm", "edm"} < unit["losses"][0].keys()
    resolved = fastdd.resolve(str(tiny), add=["dire"])
    result = fastdd.run(resolved, out, until="evaluate")
    assert set(result.metrics["arms"]) == {"random", "a+dire"}
    assert not (out / "report.html").exists()


def test_arguments_of_the_api(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "until must be one of squeeze, bank" in message(tiny, tmp_path / "out", until="recovery")
    resolved = fastdd.resolve(str(tiny))
    with pytest.raises(InputError, match="a Recipe object is complete"):
        fastdd.run(resolved, tmp_path / "out", ["ipc=3"])
    assert fastdd.run(tiny, until="squeeze").path == Path("runs/tiny")
    assert (tmp_path / "runs/tiny/teacher.safetensors").is_file()


PETS = """\
data: {root: ROOT, size: 16}
ipc: 3
teacher: {network: resnet8, epochs: 5, batch: 16, pad: 1}
arms: {deda: {method: deda, steps: 4}, sre2l: {method: sre2l, steps: 4, init: real}}
student: {network: resnet8, steps: 4, seeds: 1, evaluations: 1, labels: stored, mix: cutmix}
"""


def test_folders_and_archives_give_the_same(pets: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "pets.tar.gz", "w:gz") as tar:
        tar.add(pets, arcname="pets")
    metrics = []
    for root in (pets, tmp_path / "pets.tar.gz"):
        (tmp_path / "pets.yaml").write_text(PETS.replace("ROOT", str(root)))
        out = tmp_path / root.name.replace(".", "_")
        metrics.append(fastdd.run(tmp_path / "pets.yaml", out).metrics)
        assert metrics[-1]["data"].pop("root") == str(root)
        assert sorted(path.name for path in (out / "images" / "deda").iterdir()) == ["cat", "dog"]
    assert metrics[0] == metrics[1]
    assert metrics[0]["classes"] == ["cat", "dog"]
    assert metrics[0]["data"] == {"train": 16, "test": 6}


# -- kill -9 --------------------------------------------------------------------------------------

MOMENTS = (
    "log.jsonl", "teacher.safetensors", "bank/manifest.json", "images/sre2l/3/00000.png",
    "recover/deda/unit_00000.json", "labels/random.safetensors", "students/deda/seed_0.json", "metrics.json",
)  # fmt: skip


def kill_when(process: subprocess.Popen[str], path: Path) -> None:
    """SIGKILL as soon as the file is there."""
    end = time.monotonic() + 120
    while not path.exists():
        assert process.poll() is None, f"ended before {path.name} was there: {process.communicate()[1]}"
        assert time.monotonic() < end, f"{path.name} never came"
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL, "the run ended before it could be killed"


def test_killed_again_and_again_it_ends_with_the_same_bytes(
    finished: Path, tmp_path: Path, fastdd_process: Process
) -> None:
    command = ("run", finished.parent / "tiny.yaml", "--out", tmp_path / "out")
    for moment in MOMENTS:
        kill_when(fastdd_process(*command), tmp_path / "out" / moment)
    process = fastdd_process(*command)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert results(tmp_path / "out") == results(finished)
    assert not list((tmp_path / "out").rglob(f"{files.TEMPORARY}*"))


def test_any_result_may_be_missing(finished: Path, tmp_path: Path) -> None:
    """What a kill may leave, made by hand: every stage lacks something, and temporary files lie about."""
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    gone = ("manifest.json", "bank/manifest.json", "recover/deda/unit_00001.json", "images/deda/5/00001.png",
            "labels/sre2l.safetensors", "students/random/seed_1.json", "embeddings.safetensors", "metrics.json",
            "report.html")  # fmt: skip
    for name in gone:
        (out / name).unlink()
    for name in ("images/deda/5/.tmp-7-00001.png", ".tmp-7-metrics.json"):
        (out / name).write_bytes(b"half")
    torch.set_num_threads(1)  # as in the other run
    fastdd.run(finished.parent / "tiny.yaml", out)
    assert results(out) == results(finished)


def test_killed_before_the_first_file(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".tmp-7-recipe.yaml").write_bytes(b"half")
    fastdd.run(tiny, tmp_path / "out", until="squeeze")
    assert not (tmp_path / "out" / ".tmp-7-recipe.yaml").exists()


# -- bad input ------------------------------------------------------------------------------------


def test_unknown_recipe_key_and_device(tmp_path: Path, tiny: Path) -> None:
    out = tmp_path / "out"
    assert "unknown recipe 'digts'" in message("digts", out)
    assert "unknown key 'ipcc'" in message(tiny, out, "ipcc=3")
    assert "cannot add 'x'" in message(tiny, out, add=["x"])
    assert "device 'warp'" in message(tiny, out, "device=warp")
    if not torch.cuda.is_available():
        assert "device=cpu" in message(tiny, out, "device=cuda")
    assert not out.exists()


def test_bad_data(pets: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (tmp_path / "pets.yaml").write_text(PETS.replace("ROOT", str(pets)))

    def refused(*overrides: str) -> str:
        text = message(tmp_path / "pets.yaml", out, *overrides)
        assert not out.exists()
        return text

    assert "no data" in refused("data.root=/nowhere/at/all") or "nowhere" in refused("data.root=/nowhere/at/all")
    (tmp_path / "empty").mkdir()
    assert "is empty" in refused(f"data.root={tmp_path / 'empty'}")
    assert "'cat' holds 8 images" in refused("ipc=9")
    assert "metrics.k is 16" in refused("metrics.k=16")
    for split in ("train", "test"):
        (pets / split / "owl").mkdir()
    assert "owl' holds no images" in refused()
    for split in ("train", "test"):
        (pets / split / "owl").rmdir()
    (pets / "train" / "cat" / "3.png").write_bytes(b"no image")
    text = refused("ipc=8")
    assert "train/cat/3.png" in text
    assert "fastdd data check" in text


def test_an_unreadable_image_that_is_not_chosen_stops_the_run(pets: Path, tmp_path: Path) -> None:
    (tmp_path / "pets.yaml").write_text(PETS.replace("ROOT", str(pets)))
    (pets / "test" / "dog" / "1.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"test/dog/1\.png"):
        fastdd.run(tmp_path / "pets.yaml", tmp_path / "out")
    assert not (tmp_path / "out" / "teacher.safetensors").exists()


def test_networks_that_cannot_do_it(tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert "unknown network 'resnet21'" in message(tiny, out, "teacher.network=resnet21")
    assert "unknown network 'resnet21'" in message(tiny, out, "student.network=resnet21")
    assert "takes 3 channels" in message(tiny, out, "student.network=resnet18")
    colour = ("data.channels=3", "teacher.mean=[0.3, 0.3, 0.3]", "teacher.std=[0.4, 0.4, 0.4]")
    assert "student.network: vgg11_bn cannot take images of 3 x 8 x 8" in message(
        tiny, out, *colour, "student.network=vgg11_bn"
    )
    assert "VGG has no residual blocks" in message(tiny, out, *colour, "teacher.network=vgg11_bn", "data.size=32")
    assert not out.exists()


def test_teachers_that_do_not_fit(tiny: Path, finished: Path, tmp_path: Path) -> None:
    out, path = tmp_path / "out", tmp_path / "t.safetensors"
    given = f"teacher.weights={path}"
    assert "t.safetensors does not exist" in message(tiny, out, given)
    torch.save({"a": torch.zeros(2)}, path)
    assert "not a safetensors file" in message(tiny, out, given)
    state = load_file(finished / "teacher.safetensors")
    write_tensors(path, {**state, "conv1.weight": torch.zeros(16, 3, 3, 3)})
    assert "conv1.weight is [16, 3, 3, 3], expected [16, 1, 3, 3]" in message(tiny, out, given)
    write_tensors(path, build("resnet8", 7, 1).state_dict())
    assert "number of classes differs" in message(tiny, out, given)
    card = Card("resnet8", tuple("abcdefghij"), 1, (0.305,), (0.376,))
    save_teacher(path, Teacher(build("resnet8", 10, 1), card))
    assert "was made for classes ('a'" in message(tiny, out, given)
    assert not out.exists()


def test_a_given_teacher_below_the_bar(tiny: Path, finished: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"test accuracy here, expected at least teacher\.minimum_accuracy = 100"):
        fastdd.run(
            tiny, tmp_path / "out", [f"teacher.weights={finished / 'teacher.safetensors'}", "minimum_accuracy=1"]
        )
    assert not (tmp_path / "out" / "teacher.safetensors").exists()


def test_a_given_teacher_is_used(tiny: Path, finished: Path, tmp_path: Path) -> None:
    given = f"teacher.weights={finished / 'teacher.safetensors'}"
    torch.set_num_threads(1)  # as in the other run
    fastdd.run(tiny, tmp_path / "out", [given], until="recover")
    ours, theirs = (results(folder / "images") for folder in (tmp_path / "out", finished))
    assert ours == theirs


def test_a_folder_of_another_recipe(finished: Path, tmp_path: Path) -> None:
    tiny, out = finished.parent / "tiny.yaml", tmp_path / "out"
    shutil.copytree(finished, out)
    text = message(tiny, out, "ipc=3", "method.lr=0.7")
    assert "ipc: 2 there, 3 now" in text
    assert "arms.deda.lr: 0.25 there, 0.7 now" in text
    assert "--fresh" in text
    (out / "notes.txt").write_text("mine")
    fastdd.run(tiny, out, ["ipc=3"], fresh=True, until="squeeze")
    assert yaml.safe_load((out / "recipe.yaml").read_text())["ipc"] == 3
    assert set(content(out)) == {"recipe.yaml", "manifest.json", "log.jsonl", "teacher.safetensors", "notes.txt"}


def test_changed_data_are_refused(pets: Path, tmp_path: Path) -> None:
    (tmp_path / "pets.yaml").write_text(PETS.replace("ROOT", str(pets)))
    fastdd.run(tmp_path / "pets.yaml", tmp_path / "out", until="squeeze")
    (pets / "train" / "cat" / "3.png").rename(pets / "train" / "cat" / "33.png")
    text = message(tmp_path / "pets.yaml", tmp_path / "out")
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
    with pytest.raises(InputError, match="no space left for .*x"):
        write_bytes(out / "x", b"new")
    assert (out / "x").read_bytes() == b"old"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_under_the_log(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runfolder, "LOG", "/dev/full")
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
    for arguments in (["run"], ["run", "digits", "ipc"[:0] + "--ipc=3"], ["distil", "digits"]):
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


# -- the house rules --------------------------------------------------------------------------------


def test_nothing_is_unpickled() -> None:
    sources = [path for package in ("fastdd", "kernels") for path in (ROOT / package).rglob("*.py")]
    assert len(sources) > 40
    for path in sources:
        lines = [line.partition("#")[0] for line in path.read_text().splitlines()]
        for number, line in enumerate(lines, 1):
            where = f"{path}:{number}: {line}"
            assert "torch.load(" not in line or "weights_only=True" in line, where
            assert not any(f"{verb} {module}" in line for verb in ("import", "from")
                           for module in ("pickle", "dill", "joblib", "cloudpickle", "shelve", "marshal")), where  # fmt: skip
            assert "yaml.load(" not in line or "Loader=_Loader" in line, where
            assert "allow_pickle=True" not in line, where


@pytest.mark.parametrize("triton", [True, False])
def test_the_kernels_stand_alone(triton: bool) -> None:
    program = (
        "import sys\n" + ("" if triton else "sys.modules['triton'] = None\n") + "import torch, fastdd_kernels as k\n"
        "x = torch.rand(2, 3, 4, requires_grad=True)\n"
        "k.dire_loss(x, torch.rand(2, 5, 4)).backward()\n"
        "k.spatial_moments(torch.rand(2, 3, 4, 4))\n"
        "k.coverage(torch.rand(9, 4), torch.rand(5, 4), 2)\n"
        "k.resample(torch.rand(2, 3, 4, 4), k.resample_parameters(1, 4, 4))\n"
        "assert x.grad.isfinite().all()\n"
        "above = ('fastdd', 'torchvision', 'nvidia.dali')\n"
        "assert not [m for m in sys.modules if m in above or m.startswith(tuple(a + '.' for a in above))]\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

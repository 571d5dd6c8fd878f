"""The whole path: one command, its run folder, bad input, and `kill -9` at any moment."""

from __future__ import annotations

import hashlib
import json
import shutil
import signal
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from forked import Program
from safetensors.torch import load_file

import fastdd
from fastdd.config import Recipe
from fastdd.errors import InputError
from fastdd.runtime import files

Process = Callable[..., Program]
ARMS = ("random", "sre2l", "deda", "sre2l+dire")
VARYING = {"manifest.json", "log.jsonl", "report.html"}
"""files that hold times or facts of the machine; all others are results"""

ROOT = Path(__file__).parents[1]


def content(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def results(folder: Path) -> dict[str, str]:
    """File -> hash, without the files that hold times."""
    found = {name: hashlib.sha256(data).hexdigest() for name, data in content(folder).items()}
    return {name: digest for name, digest in found.items() if name not in VARYING}


# -- a finished run -------------------------------------------------------------------------------


def test_the_run_folder(finished: Path) -> None:
    names = set(content(finished))
    units = {"random": 1, "sre2l": 2, "deda": 3, "sre2l+dire": 1}
    expected = {
        "recipe.yaml",
        "manifest.json",
        "metrics.json",
        "log.jsonl",
        "report.html",
        "teacher.safetensors",
        "data.json",
        "squeeze.json",
        "scores.safetensors",
        "embeddings.safetensors",
        "bank/manifest.json",
        "bank/classes-00000-00009.safetensors",
    }
    for arm in ARMS:
        expected |= {f"images/{arm}/{c}/{slot:05d}.png" for c in range(10) for slot in range(2)}
        expected |= {f"recover/{arm}/unit_{i:05d}.json" for i in range(units[arm])}
        expected |= {f"students/{arm}/seed_{seed}.json" for seed in range(2)}
    expected |= {f"students/full/seed_{seed}.json" for seed in range(2)}
    assert names == expected


def test_metrics(finished: Path) -> None:
    metrics = json.loads((finished / "metrics.json").read_text())
    assert list(metrics["arms"]) == list(ARMS)
    assert (metrics["ipc"], metrics["k"], metrics["protocol"]["seeds"]) == (2, 5, 2)
    assert metrics["data"] == {"root": "digits", "train": 1438, "test": 359}
    assert metrics["classes"] == [str(c) for c in range(10)]
    assert 0.3 < metrics["teacher"]["accuracy"] <= 1
    for arm, values in metrics["arms"].items():
        students = [
            json.loads((finished / f"students/{arm}/seed_{seed}.json").read_text()) for seed in range(2)
        ]
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
    per_arm = {f"{stage} {arm}" for stage in ("recover", "students") for arm in ARMS}
    assert set(manifest["stages"]) == {"squeeze", "bank", "metrics", "report", "students full"} | per_arm
    assert all(stage["seconds"] >= 0 for stage in manifest["stages"].values())
    assert manifest["stages"]["recover deda"]["images"] == 20 * 10
    lines = [json.loads(line) for line in (finished / "log.jsonl").read_text().splitlines()]
    stages = [line["event"] for line in lines if line["event"] in ("begin", "end")]
    assert stages == ["begin", "end"] * (len(stages) // 2)
    assert {"progress", "losses", "accuracy", "images"} <= {line["event"] for line in lines}


def test_the_saved_recipe_is_whole_and_runs_again(finished: Path) -> None:
    saved = Recipe.model_validate(yaml.safe_load((finished / "recipe.yaml").read_text()))
    assert saved == fastdd.resolve(str(finished.parent / "tiny.yaml"))


def test_losses_and_embeddings(finished: Path) -> None:
    unit = json.loads((finished / "recover/deda/unit_00000.json").read_text())
    assert unit["rows"] == [[c, slot] for c in range(4) for slot in range(2)]
    assert [entry["step"] for entry in unit["losses"]] == [0, 5, 9]
    assert set(unit["losses"][0]) == {"step", "ce", "gaussian", "variance", "covariance"}
    first, *_, last = (sum(entry.values()) - entry["step"] for entry in unit["losses"])
    assert last < first
    embeddings = load_file(finished / "embeddings.safetensors")
    assert embeddings.keys() == {"real", "real_labels", *ARMS}
    assert embeddings["deda"].shape == (20, 64)


def test_table_progress_and_page(finished: Path) -> None:
    out, err = ((finished.parent / name).read_text() for name in ("stdout", "stderr"))
    for text in ("random real images", "SRe2L + DiRe", "coverage (k=5)", "protocol", "report.html", " ± "):
        assert text in out, text
    for stage in ("squeeze", "bank", "recover deda", "student deda 0"):
        assert f"{stage}: " in err
    assert "images/s" in err
    assert "Traceback" not in err
    page = (finished / "report.html").read_text()
    assert "SRe2L + DiRe" in page
    assert "data:image/" in page


def test_the_second_run_does_nothing(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "out")

    def times() -> dict[Path, int]:
        return {
            p: p.stat().st_mtime_ns
            for p in (tmp_path / "out").rglob("*")
            if p.name not in VARYING and p.is_file()
        }

    before = times()
    result = fastdd.run(str(finished.parent / "tiny.yaml"), tmp_path / "out")
    assert times() == before
    assert result.metrics.model_dump(mode="json", exclude_unset=True) == json.loads(
        (finished / "metrics.json").read_text()
    )
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
        tiny.read_text().split("arms:")[0]
        + "arms: {a: {method: deda}}\nstudent: {network: resnet8, steps: 2}"
    )
    out = tmp_path / "out"
    for index, (stage, made) in enumerate(steps.items()):
        result = fastdd.run(tiny, out, add=["dire"], until=stage)
        assert (out / made).exists()
        assert not any((out / later).exists() for later in list(steps.values())[index + 1 :])
        with pytest.raises(InputError, match=r"metrics\.json is missing, so the run is not finished"):
            _ = result.metrics
    unit = json.loads((out / "recover/a+dire/unit_00000.json").read_text())
    assert {"gaussian", "cd", "cdm", "edm"} < unit["losses"][0].keys()
    resolved = fastdd.resolve(str(tiny), add=["dire"])
    result = fastdd.run(resolved, out, until="evaluate")
    assert set(result.metrics.arms) == {"random", "a+dire"}
    assert not (out / "report.html").exists()


def test_arguments_of_the_api(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    resolved = fastdd.resolve(str(tiny))
    with pytest.raises(InputError, match="until must be one of squeeze, bank"):
        fastdd.run(resolved, tmp_path / "out", until="recovery")
    with pytest.raises(InputError, match="a Recipe object is complete"):
        fastdd.run(resolved, tmp_path / "out", ["ipc=3"])
    assert fastdd.run(tiny, until="squeeze").path == Path("runs/tiny")
    assert (tmp_path / "runs/tiny/teacher.safetensors").is_file()


def test_folders_and_archives_give_the_same(
    pets: Path, pets_recipe: Callable[[Path], Path], tmp_path: Path
) -> None:
    with tarfile.open(tmp_path / "pets.tar.gz", "w:gz") as tar:
        tar.add(pets, arcname="pets")
    metrics = []
    for root in (pets, tmp_path / "pets.tar.gz"):
        recipe = pets_recipe(root)
        out = tmp_path / f"run-{root.name}"
        found = fastdd.run(recipe, out).metrics
        assert (found.data.root, found.data.train, found.data.test) == (str(root), 16, 6)
        metrics.append(found.model_copy(update={"data": None, "digest": None}))
        assert sorted(path.name for path in (out / "images" / "deda").iterdir()) == ["cat", "dog"]
    assert metrics[0] == metrics[1]
    assert metrics[0].classes == ("cat", "dog")


# -- kill -9 --------------------------------------------------------------------------------------

MOMENTS = (
    "teacher.safetensors",
    "bank/manifest.json",
    "images/sre2l/3/00000.png",
    "recover/deda/unit_00000.json",
    "students/deda/seed_0.json",
    "students/full/seed_0.json",
)


def kill_when(process: Program, path: Path) -> None:
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
    assert not list((tmp_path / "out").rglob(".tmp*"))


def test_tensors_can_be_read_by_whom_text_can(tmp_path: Path) -> None:
    """safetensors alone makes files for their owner only, of no use to a group that shares its runs."""
    files.write_text(tmp_path / "text", "a")
    files.write_tensors(tmp_path / "tensors", {"a": torch.zeros(2)})
    assert (tmp_path / "text").stat().st_mode == (tmp_path / "tensors").stat().st_mode
    assert len(list(tmp_path.iterdir())) == 2


def test_any_result_may_be_missing(finished: Path, tmp_path: Path, one_thread: None) -> None:
    """What a kill may leave, made by hand: every stage lacks something, and temporary files lie about."""
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    gone = (
        "manifest.json",
        "bank/manifest.json",
        "recover/deda/unit_00001.json",
        "images/deda/5/00001.png",
        "students/random/seed_1.json",
        "students/full/seed_0.json",
        "embeddings.safetensors",
        "metrics.json",
        "report.html",
    )
    for name in gone:
        (out / name).unlink()
    for name in ("images/deda/5/.tmp-7-00001.png", ".tmp-7-metrics.json", "bank/.tmp-7-manifest.json"):
        (out / name).write_bytes(b"half")
    fastdd.run(finished.parent / "tiny.yaml", out)
    assert not list(out.rglob(".tmp*"))
    assert results(out) == results(finished)


def test_the_same_command_on_a_finished_run_writes_nothing(
    finished: Path, tmp_path: Path, one_thread: None
) -> None:
    def content() -> dict[Path, tuple[int, bytes]]:
        return {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in out.rglob("*") if p.is_file()}

    out = tmp_path / "out"
    shutil.copytree(finished, out)
    before = content()
    fastdd.run(finished.parent / "tiny.yaml", out)
    assert content() == before


@pytest.mark.parametrize("fault", ["missing", "damaged"])
def test_of_one_image_its_unit_alone_is_made_again(
    fault: str, finished: Path, tmp_path: Path, one_thread: None
) -> None:
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    image = out / "images" / "deda" / "5" / "00001.png"
    logs = (out / "recover" / "deda").glob("unit_*.json")
    (unit,) = (log for log in logs if [5, 1] in json.loads(log.read_text())["rows"])
    if fault == "missing":
        image.unlink()
    else:
        image.write_bytes(b"half")
        (out / "report.html").unlink()
    with pytest.raises(InputError, match=rf"^{image} is .*; delete {unit} and start the same"):
        fastdd.run(finished.parent / "tiny.yaml", out)
    unit.unlink()
    fastdd.run(finished.parent / "tiny.yaml", out)
    assert results(out) == results(finished)


def test_a_finished_run_whose_teacher_is_gone_says_so(finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    (out / "teacher.safetensors").unlink()
    with pytest.raises(InputError, match=r"teacher\.safetensors is gone, the teacher from which the rest"):
        fastdd.run(finished.parent / "tiny.yaml", out)
    assert not (out / "teacher.safetensors").exists()


def test_killed_before_the_first_file(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".tmp-7-recipe.yaml").write_bytes(b"half")
    fastdd.run(tiny, tmp_path / "out", until="squeeze")
    assert not (tmp_path / "out" / ".tmp-7-recipe.yaml").exists()

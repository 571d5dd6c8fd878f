"""Exports: each form is loaded by its library, with the code of its own card, and gives the same images."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from pictures import jpeg, picture, png, write
from run_folders import make_run_folder, write_recipe
from safetensors.torch import load_file
from torch import Tensor
from torchvision.datasets import ImageFolder
from torchvision.transforms.functional import pil_to_tensor

from fastdd.cli import main
from fastdd.distilled import DistilledSet, channels_of, open_set
from fastdd.errors import InputError
from fastdd.export import FORMS, Form, export, register_export
from fastdd.export.content import Content, write_new
from fastdd.run_folder import ArmResult, Metrics, RunFolder
from fastdd.run_folder import write as write_results
from fastdd.run_folder.results import DataResult, ProtocolResult, TeacherResult
from fastdd.runtime.files import write_tensors

CLASSES = ("cat", "dog", "emu")
IPC = 3


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run's folder whose arm ``deda`` has nine images and soft labels, with metrics and private paths."""
    run = tmp_path / "pets-run"
    for c, name in enumerate(CLASSES):
        for slot in range(IPC):
            write(run, f"images/deda/{name}/{slot:05d}.png", png(picture(10 * c + slot)))
    recipe = {
        "name": "pets",
        "ipc": IPC,
        "data": {"root": "/home/someone/pets.tar", "channels": 3},
        "teacher": {"network": "resnet8", "weights": "/home/someone/t.safetensors"},
        "arms": {"deda": {"title": "DEDA", "steps": 7}, "dire": {"title": "DiRe", "steps": 8}},
    }
    make_run_folder(run, recipe, CLASSES)
    deda = ArmResult(
        title="DEDA",
        seen=IPC,
        last=(0.5, 0.7),
        best=(0.5, 0.7),
        curves=(),
        coverage=0.25,
        vendi=2.0,
        cosine=0.125,
        vendi_by_class=(2.0,) * len(CLASSES),
        cosine_by_class=(0.125,) * len(CLASSES),
    )
    random = deda.model_copy(update={"title": "random", "last": (0.25,)})
    metrics = Metrics(
        recipe="pets",
        description="",
        classes=CLASSES,
        ipc=IPC,
        seed=0,
        data=DataResult(root="/home/someone/pets.tar", train=1234, test=1234),
        teacher=TeacherResult(network="resnet8", accuracy=0.87),
        protocol=ProtocolResult(text="as written", hash="cafe", seeds=2),
        k=5,
        arms={"random": random, "deda": deda},
        full_set=None,
    )
    write_results(RunFolder(run).metrics, metrics)
    write_tensors(run / "labels/deda.safetensors", {"logits": logits()})
    return run


def logits() -> Tensor:
    return torch.randn(len(CLASSES) * IPC, len(CLASSES), generator=torch.Generator().manual_seed(0)).half()


def snippet(folder: Path) -> dict[str, Any]:
    """What the names of the card's code stand for after it was run."""
    (code,) = re.findall(r"```python\n(.*?)\n```", (folder / "README.md").read_text(), re.DOTALL)
    assert len(code.splitlines()) == 3
    names: dict[str, Any] = {}
    exec(code.replace(f'"{folder.name}', f'"{folder}'), names)
    return names


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Hugging Face's libraries keep to this machine, and their cache to the test."""
    pytest.importorskip("datasets", reason="pip install 'fastdd[dev]'")
    import datasets

    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()


# -- forms ----------------------------------------------------------------------------------------


def test_an_image_folder_loads_with_torchvision(run: Path, tmp_path: Path) -> None:
    distilled = open_set(run)
    out = export(distilled, "imagefolder", tmp_path / "out")
    loaded = snippet(out)
    data: ImageFolder = loaded["data"]
    assert tuple(data.classes) == CLASSES
    assert data.targets == distilled.labels.tolist()
    assert all(torch.equal(pil_to_tensor(data[i][0]), distilled.images[i]) for i in range(len(data)))
    lines = [json.loads(line) for line in (out / "train/metadata.jsonl").read_text().splitlines()]
    assert lines[4] == {"file_name": "dog/00001.png", "label": 1, "class": "dog", "id": "dog/00001.png"}
    assert torch.equal(load_file(out / "labels.safetensors")["logits"], logits())
    again = open_set(out)
    assert torch.equal(again.images, distilled.images)
    assert again.ids == distilled.ids


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("form", FORMS)
def test_every_form_loads_with_datasets_by_its_card(run: Path, tmp_path: Path, form: str) -> None:
    from datasets import load_dataset

    distilled = open_set(run)
    data = load_dataset(str(export(distilled, form, tmp_path / "out")), split="train")
    image, label = ("png", "cls") if form == "webdataset" else ("image", "label")
    assert data[label][:] == distilled.labels.tolist()
    assert all(torch.equal(pil_to_tensor(row[image]), distilled.images[i]) for i, row in enumerate(data))


def test_shards_load_with_webdataset(run: Path, tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset", reason="pip install 'fastdd[dev]'")
    distilled = open_set(run)
    small = 4 * (3 * 6 * 6 + 4 * 3 + 8192)  # four images
    out = export(distilled, "webdataset", tmp_path / "out", shard_mb=small / 1e6)
    assert [path.name for path in sorted(out.glob("*.tar"))] == [f"train-{i:06d}.tar" for i in range(3)]
    assert all(path.stat().st_size <= small for path in out.glob("*.tar"))
    loaded = snippet(out)
    assert torch.equal(pil_to_tensor(loaded["image"]), distilled.images[0])
    assert loaded["label"] == 0
    shards = webdataset.WebDataset(f"{out}/train-{{000000..000002}}.tar", shardshuffle=False)
    rows = list(shards.decode("torchrgb8").to_tuple("png", "cls", "json", "logits.npy"))
    assert [row[1] for row in rows] == distilled.labels.tolist()
    assert [row[2]["id"] for row in rows] == list(distilled.ids)
    assert torch.equal(torch.stack([torch.as_tensor(row[0]) for row in rows]), distilled.images)
    assert np.array_equal(np.stack([row[3] for row in rows]), logits().numpy())
    assert (out / "classes.txt").read_text().split() == list(CLASSES)


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("form", ["parquet", "hf"])
def test_tables_load_with_datasets(run: Path, tmp_path: Path, form: str) -> None:
    pytest.importorskip("pyarrow", reason="pip install 'fastdd[export]'")
    distilled = open_set(run)
    out = export(distilled, form, tmp_path / "out", shard_mb=0.05)  # six images
    files = sorted(path.relative_to(out).as_posix() for path in out.rglob("*.parquet"))
    assert files == (
        ["data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet"]
        if form == "hf"
        else ["00000.parquet", "00001.parquet"]
    )
    loaded = snippet(out)
    data = loaded["data"]
    assert torch.equal(pil_to_tensor(loaded["image"]), distilled.images[0])
    assert data.features["label"].names == list(CLASSES)
    assert data["label"][:] == distilled.labels.tolist()
    assert data["id"][:] == list(distilled.ids)
    assert all(torch.equal(pil_to_tensor(row["image"]), distilled.images[i]) for i, row in enumerate(data))
    assert torch.equal(torch.tensor(data["logits"][:]), logits().float())


def test_more_rows_than_a_row_group(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="pip install 'fastdd[export]'")
    images = torch.randint(0, 256, (250, 1, 2, 2), dtype=torch.uint8)
    labels = torch.arange(250) // 125
    ids = tuple(map(str, range(250)))
    distilled = DistilledSet(
        images=images, labels=labels, classes=("a", "b"), ids=ids, path=tmp_path, source=None
    )
    file = parquet.ParquetFile(export(distilled, "parquet", tmp_path / "out") / "00000.parquet")
    assert [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)] == [100, 100, 50]
    assert file.read()["id"].to_pylist() == list(ids)
    assert "logits" not in file.schema_arrow.names


def test_numbers_keep_their_order(tmp_path: Path) -> None:
    """Classes 2, 101 and 1000 of a released set sort as text in another order."""
    for c in (2, 101, 1000):
        write(tmp_path / "set", f"new{c:03d}/class{c:03d}_id000.jpg", jpeg(picture(c)))
    distilled = open_set(tmp_path / "set")
    data = ImageFolder(export(distilled, "imagefolder", tmp_path / "out") / "train")
    assert data.classes == ["0002", "0101", "1000"]
    real = [f"n{c:05d}" for c in range(1001)]
    again = open_set(tmp_path / "out")
    assert torch.equal(again.images, distilled.images)
    assert torch.equal(again.classes_of(real), distilled.classes_of(real))


# -- card -----------------------------------------------------------------------------------------


def test_the_card_says_what_the_run_says(run: Path, tmp_path: Path) -> None:
    text = (export(open_set(run), "imagefolder", tmp_path / "out") / "README.md").read_text()
    header = yaml.safe_load(text.split("---")[1])
    assert header["pretty_name"] == "DEDA, distilled from pets.tar"
    assert header["size_categories"] == ["n<1K"]
    for said in (
        "| distilled from | pets.tar, 1,234 images of train |",
        "| its fingerprint | f00d (of names) |",
        "| recipe | pets (5ca1ab1e), arm deda |",
        "| teacher | resnet8, 87.0% top-1 |",
        "| images | 9 of 3 classes |",
        f"| images a class (IPC) | {IPC} |",
        "| students | resnet20, soft labels, protocol house |",
        "| | top-1 % (last, resnet20, soft labels) | coverage |",
        "| DEDA | 60.0 (2 students) | 0.250 | 2.000 | 0.125 |",
        "| random | 25.0 (1 student) |",
        "Protocol house (cafe) of resnet20, soft labels: as written.",
        "fastdd evaluate FOLDER --teacher TEACHER.safetensors --data REAL_IMAGES --protocol house\n",
        "`fastdd evaluate pets-run --arm deda`",
        "The images derive from pets.tar, so its licence",
        "the teacher's logits of each image",
        "Random real images, as many a class, are the control",
        "steps: 7",
    ):
        assert said in text
    assert "someone" not in text
    assert "steps: 8" not in text  # another arm's


def test_the_card_of_a_set_of_unknown_origin(run: Path, tmp_path: Path) -> None:
    (run / "images/deda").rename(tmp_path / "set")
    text = (export(open_set(tmp_path / "set"), "imagefolder", tmp_path / "out") / "README.md").read_text()
    assert "not recorded" in text
    assert "## Results" not in text
    assert not (tmp_path / "out/labels.safetensors").exists()


# -- whole or absent ------------------------------------------------------------------------------


def test_nothing_is_overwritten_or_left_half(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    distilled, out = open_set(run), tmp_path / "out"
    with pytest.raises(InputError, match=r"did you mean 'parquet'\?"):
        export(distilled, "parket", out)
    with pytest.raises(InputError, match="expected more than 0"):
        export(distilled, "webdataset", out, shard_mb=0)
    monkeypatch.setattr("fastdd.export.forms.card", lambda *arguments, **named: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        export(distilled, "imagefolder", out)
    assert os.listdir(tmp_path) == ["pets-run"]
    monkeypatch.undo()
    out.mkdir()
    export(distilled, "imagefolder", out)  # an empty folder is taken
    with pytest.raises(InputError, match="is not empty; choose a new folder"):
        export(distilled, "imagefolder", out)
    with pytest.raises(InputError, match="is a file"):
        export(distilled, "imagefolder", out / "README.md")


def test_labels_that_do_not_fit_are_refused_and_pools_stay(run: Path, tmp_path: Path) -> None:
    write_tensors(run / "labels/deda.safetensors", {"logits": logits()[:-1]})
    with pytest.raises(InputError, match=r"'logits' is \[8, 3\], expected \[9, 3\]"):
        export(open_set(run), "imagefolder", tmp_path / "out")
    write_tensors(run / "labels/deda.safetensors", {"logits": logits()[None]})  # several views of an image
    export(open_set(run), "imagefolder", tmp_path / "out")
    assert not (tmp_path / "out/labels.safetensors").exists()
    (run / "labels/deda.safetensors").write_bytes(b"x")
    with pytest.raises(InputError, match=r"deda.safetensors is damaged"):
        export(open_set(run), "imagefolder", tmp_path / "again")


# -- command --------------------------------------------------------------------------------------


def test_the_command(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["export", str(run), "--to", "imagefolder"]) == 0
    assert "pets-run-deda-imagefolder: 9 images" in capsys.readouterr().out
    assert (tmp_path / "pets-run-deda-imagefolder/README.md").is_file()
    assert main(["export", str(run), "--to", "imagefolder"]) == 2
    assert "is not empty" in capsys.readouterr().err
    recipe = yaml.safe_load((run / "recipe.yaml").read_text())
    grey = {"data": {"channels": 1}, "teacher": {"mean": [0.5], "std": [0.5]}}
    write_recipe(RunFolder(run), recipe | grey)
    assert (channels_of(run), channels_of(tmp_path)) == (1, 3)
    assert main(["export", str(run), "--to", "webdataset", "--size", "4", "--out", "small"]) == 0
    assert "| pixels | 4 x 4, grey, PNG |" in (tmp_path / "small/README.md").read_text()


def test_a_form_is_a_file_that_registers_itself(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def write_names(content: Content, folder: Path, shard_bytes: int) -> None:
        write_new(folder / "names.txt", " ".join(content.names).encode())

    assert sorted(FORMS) == ["hf", "imagefolder", "parquet", "webdataset"]
    monkeypatch.setattr(FORMS, "_things", dict(FORMS._things))
    register_export("names", Form("class names", write_names, files="names.txt", loading="a\nb\nc"))
    assert main(["export", str(run), "--to", "names", "--out", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out/names.txt").read_text() == "cat dog emu"
    assert "| form | class names, with the teacher's logits" in (tmp_path / "out/README.md").read_text()
    capsys.readouterr()
    monkeypatch.setattr("fastdd.distilled.open_set", lambda *arguments, **named: 1 / 0)
    assert main(["export", str(run), "--to", "web-dataset"]) == 2  # before any image is read
    assert "unknown form 'web-dataset' (did you mean 'webdataset'?); known: " in capsys.readouterr().err


@pytest.mark.parametrize("form", ["parquet", "hf"])
def test_what_cannot_be_written_is_refused_before_any_image_is_read(
    run: Path, tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("fastdd.distilled.open_set", lambda *arguments, **named: 1 / 0)
    write_new(tmp_path / "full/note.txt", b"x")
    command = ["export", str(run), "--to"]
    assert main([*command, "webdataset", "--shard-mb", "0"]) == 2
    assert "shards of 0 MB are not possible" in capsys.readouterr().err
    assert main([*command, "webdataset", "--out", str(tmp_path / "full")]) == 2
    assert "full is not empty" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert main([*command, form]) == 2
    said = f"error: the form {form} needs pyarrow, which is not installed; pip install 'fastdd[export]'\n"
    assert capsys.readouterr().err == said


def test_the_help_of_the_command_needs_no_torch() -> None:
    code = """
import sys
from fastdd.cli import main
try:
    main(["export", "--help"])
except SystemExit:
    assert "torch" not in sys.modules
    print("without torch")
"""
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "without torch" in process.stdout, process.stderr


# -- exports as sets ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["webdataset", "parquet", "hf", "imagefolder"])
def test_every_export_is_read_as_the_set_that_it_is_of(run: Path, tmp_path: Path, form: str) -> None:
    if form in ("parquet", "hf"):
        pytest.importorskip("pyarrow")
    distilled = open_set(run)
    out = export(distilled, form, tmp_path / "out", shard_mb=0.02)
    assert len(list(out.rglob("*.tar")) + list(out.rglob("*.parquet"))) != 1  # several files, or folders
    found = open_set(out)
    assert torch.equal(found.images, distilled.images)
    assert torch.equal(found.labels, distilled.labels)
    assert found.classes == distilled.classes
    assert len(set(found.ids)) == len(found)
    assert found.classes_of(["emu", "dog", "cat"]).tolist() == [2, 2, 2, 1, 1, 1, 0, 0, 0]


@pytest.mark.parametrize("form", ["webdataset", "parquet", "hf", "imagefolder"])
def test_soft_labels_go_along_with_an_export_of_an_export(run: Path, tmp_path: Path, form: str) -> None:
    if form in ("parquet", "hf"):
        pytest.importorskip("pyarrow")
    first = export(open_set(run), form, tmp_path / "first", shard_mb=0.02)
    again = export(open_set(first), "imagefolder", tmp_path / "again")
    assert torch.equal(load_file(again / "labels.safetensors")["logits"], logits())
    assert "the teacher's logits of each image" in (again / "README.md").read_text()


def test_soft_labels_of_an_export_that_are_not_of_its_images_are_refused(run: Path, tmp_path: Path) -> None:
    out = export(open_set(run), "imagefolder", tmp_path / "out")
    (out / "train/cat/00000.png").unlink()
    with pytest.raises(InputError, match=r"'logits' is \[9, 3\], expected \[8, n\].*export the set again"):
        open_set(out)
    write_tensors(out / "labels.safetensors", {"other": torch.zeros(3)})  # somebody else's file
    assert open_set(out).logits is None
    shards = export(open_set(run), "webdataset", tmp_path / "shards")
    (shard,) = shards.glob("*.tar")
    content = shard.read_bytes()
    at = content.index(b"\x93NUMPY")
    shard.write_bytes(content[:at] + b"X" + content[at + 1 :])
    with pytest.raises(InputError, match=r"logits\.npy is no array .*export the set again"):
        open_set(shards)


def test_an_export_says_which_soft_labels_stay_behind(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run / "labels/deda.safetensors").unlink()
    (run / "labels/deda").mkdir()
    export(open_set(run), "imagefolder", tmp_path / "out")
    assert "its soft labels are of augmented views" in capsys.readouterr().err
    assert str(run / "labels/deda") not in (tmp_path / "out/README.md").read_text()


@pytest.mark.parametrize("form", ["webdataset", "parquet"])
def test_a_damaged_export_is_one_line(run: Path, tmp_path: Path, form: str) -> None:
    pytest.importorskip("pyarrow")
    out = export(open_set(run), form, tmp_path / "out")
    (file,) = [path for path in out.iterdir() if path.suffix in (".tar", ".parquet")]
    whole = file.read_bytes()
    for content in (b"", b"PAR1", whole[: 2 * len(whole) // 5]):
        file.write_bytes(content)
        with pytest.raises(InputError, match=rf"{file.stem}|{file.name}"):
            open_set(out)


def test_parquet_of_something_else_is_refused(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow.parquet import write_table

    names = json.dumps({"info": {"features": {"label": {"names": ["cat"]}}}})
    image = {"bytes": png(picture(0)), "path": None}
    for columns, noted, reason in (
        ({"a": [1]}, names, "image"),
        ({"image": [image], "label": [0]}, "{}", "its schema does not name the classes"),
        ({"image": ["x"], "label": [0]}, names, "row 0 has no encoded image"),
        ({"image": [image], "label": [None]}, names, "row 0 has no encoded image and number"),
        ({"image": [image], "label": [1]}, names, "row 0 has label 1, but there are 1 classes"),
    ):
        table = pyarrow.table(columns).replace_schema_metadata({"huggingface": noted})
        write_table(table, tmp_path / "0.parquet")
        with pytest.raises(InputError, match=reason):
            open_set(tmp_path)


def test_all_arms_of_a_run_are_exported_where_none_is_named(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["export", str(finished), "--to", "imagefolder"]) == 0
    names = [f"out-{arm}-imagefolder" for arm in ("deda", "sre2l", "sre2l+dire")]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)
    assert main(["export", str(finished), "--to", "imagefolder", "--out", "all"]) == 0
    assert sorted(path.name for path in Path("all").iterdir()) == ["deda", "sre2l", "sre2l+dire"]
    assert capsys.readouterr().out.count("says how to load it") == 6

"""Data sets of the Hugging Face hub: read from its cache; downloaded and sent where that is asked for."""

from __future__ import annotations

import hashlib
import json
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from pictures import picture, png, write
from test_export import CLASSES, logits, run  # noqa: F401  the run is a fixture

import fastdd
from fastdd.cli import main
from fastdd.data import open_dataset
from fastdd.distilled import open_set
from fastdd.errors import InputError
from fastdd.export import FORMS, export
from fastdd.runtime.hub import HubSet

huggingface_hub = pytest.importorskip("huggingface_hub", reason="pip install 'fastdd[hub]'")
pyarrow = pytest.importorskip("pyarrow", reason="pip install 'fastdd[hub]'")

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of huggingface_hub, and no network: whoever looks for an address fails the test."""

    def connected(*arguments: object, **named: object) -> None:
        raise AssertionError(f"a connection to {arguments[:2]}")

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(socket, "getaddrinfo", connected)
    return tmp_path / "cache"


def put_into(cache: Path, repository: str, folder: Path) -> Path:
    """Lay a folder into the cache as the library does: each file a link to a blob; returns the snapshot."""
    top = cache / f"datasets--{repository.replace('/', '--')}"
    write(top, "refs/main", COMMIT.encode())
    for path in folder.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            blob = f"blobs/{hashlib.sha256(content).hexdigest()}"
            write(top, blob, content)
            link = top / "snapshots" / COMMIT / path.relative_to(folder)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(os.path.relpath(top / blob, link.parent))
    return top / "snapshots" / COMMIT


def write_table(
    path: Path, images: list[bytes], labels: list[int], *, names: list[str] | None, column: str = "image"
) -> None:
    """A Parquet file as Hugging Face's libraries write it."""
    from pyarrow.parquet import write_table as write_file

    features = {column: {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}
    noted = {} if names is None else {"huggingface": json.dumps({"info": {"features": features}})}
    table = pyarrow.table({column: [{"bytes": each, "path": None} for each in images], "label": labels})
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(table.replace_schema_metadata(noted), path)


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """A folder as data sets on the hub are: Parquet files of both splits in data/, and a card."""
    folder, names = tmp_path / "pets", ["dog", "cat"]
    for split, count in (("train", 6), ("test", 2)):
        images = [png(picture(20 * number)) for number in range(2 * count)]
        labels = [number % 2 for number in range(2 * count)]
        for part in (0, 1):
            path = folder / f"data/{split}-{part:05d}-of-00002.parquet"
            write_table(path, images[part * count :][:count], labels[part * count :][:count], names=names)
    (folder / "README.md").write_text("# Pets\n")
    return folder


# -- reading from the cache -----------------------------------------------------------------------


def test_real_data_of_the_hub_are_read_from_the_cache_class_by_class(cache: Path, pets: Path) -> None:
    put_into(cache, "me/pets", pets)
    train, test = (open_dataset("hf:me/pets", split) for split in ("train", "test"))
    assert (len(train), len(test)) == (12, 4)
    assert train.classes == ("0_dog", "1_cat")  # whose order is that of the numbers
    assert train.counts == (6, 6)
    assert torch.equal(train.reader.pixels(1, 3), picture(40))  # the second dog
    assert open_dataset(f"hf:me/pets@{COMMIT}", "train").fingerprint == train.fingerprint
    assert open_dataset(pets, "train").fingerprint == train.fingerprint  # as a folder too


def test_a_run_takes_its_images_from_the_hub(cache: Path, tmp_path: Path) -> None:
    folder = tmp_path / "blobs"
    generator = torch.Generator().manual_seed(0)
    for split, count in (("train", 8), ("test", 3)):
        images, labels = [], []
        for label in range(2):
            for _ in range(count):
                image = torch.randint(0, 128, (3, 8, 8), generator=generator, dtype=torch.uint8)
                image[label] += 127
                images.append(png(image))
                labels.append(label)
        write_table(
            folder / f"plain/{split}-00000-of-00001.parquet", images, labels, names=None, column="img"
        )
    put_into(cache, "me/blobs", folder)
    recipe = write_recipe(tmp_path, "hf:me/blobs")
    result = fastdd.run(recipe, tmp_path / "out", until="recover")
    assert sorted(path.name for path in (result.path / "images/deda").iterdir()) == ["0", "1"]


def write_recipe(folder: Path, root: str) -> Path:
    (folder / "own.yaml").write_text(
        f"ipc: 1\ndata: {{root: '{root}'}}\n"
        "teacher: {network: resnet8, epochs: 1, batch: 8, pad: 1}\n"
        "arms: {deda: {method: deda, steps: 2}}\n"
        "student: {network: resnet8, steps: 2, batch: 2, pad: 1, seeds: 1}\n"
    )
    return folder / "own.yaml"


@pytest.mark.parametrize("form", FORMS)
def test_every_export_is_read_back_equal_from_a_folder_and_from_the_hub(
    run: Path,  # noqa: F811
    cache: Path,
    tmp_path: Path,
    form: str,
) -> None:
    distilled = open_set(run)
    out = export(distilled, form, tmp_path / "out", shard_mb=0.02)
    put_into(cache, "me/deda", out)
    for path in (str(out), "hf:me/deda", f"hf:me/deda@{COMMIT}"):
        found = fastdd.load(path, soft=True)
        assert torch.equal(found.images, distilled.images)
        assert torch.equal(found.labels, distilled.labels)
        assert found.classes == distilled.classes
        assert found.logits is not None
        assert torch.equal(found.logits, logits().float())


def test_commands_take_sets_of_the_hub(
    run: Path,  # noqa: F811
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    put_into(cache, "me/deda", export(open_set(run), "hf", tmp_path / "out"))
    assert main(["export", "hf:me/deda", "--to", "imagefolder"]) == 0
    assert torch.equal(open_set("deda-imagefolder").images, open_set(run).images)
    capsys.readouterr()
    assert main(["evaluate", "hf:me/deda", "--teacher", "t.safetensors", "--data", "digits"]) == 2
    assert "into which nothing is written; name the file of results with --json" in capsys.readouterr().err
    asked = ["--teacher", "t.safetensors", "--data", "digits", "--json", "found.json"]
    assert main(["evaluate", "hf:me/deda", *asked]) == 2
    assert "t.safetensors does not exist" in capsys.readouterr().err  # it came so far


# -- what is not there ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command",
    [
        ["run", "digits", "data.root=hf:me/none"],
        ["run", "digits", "data.root=digits", "method.init=hf:me/none", "--out", "x"],
        ["evaluate", "hf:me/none", "--teacher", "t", "--data", "d", "--json", "j"],
        ["judge", "hf:me/none", "--teacher", "t", "--data", "digits", "--out", "x"],
        ["metrics", "hf:me/none", "--teacher", "t", "--real", "digits"],
        ["export", "hf:me/none", "--to", "hf"],
        ["data", "check", "hf:me/none"],
    ],
)
def test_nothing_connects_unless_it_is_asked_to(
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(command) == 2
    (line,) = [each for each in capsys.readouterr().err.splitlines() if each.startswith("error: ")]
    assert f"hf:me/none is not in the cache of huggingface_hub ({cache}); add --download, or get it" in line
    assert "`hf download me/none --repo-type dataset`" in line


def test_without_a_network_a_download_fails_at_once_in_one_line(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def unreachable(*arguments: object, **named: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unreachable)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.chdir(tmp_path)
    assert main(["run", "digits", "data.root=hf:me/none", "--download"]) == 2
    (line,) = [each for each in capsys.readouterr().err.splitlines() if each.startswith("error: ")]
    assert "hf:me/none cannot be downloaded (" in line
    assert "Name or service not known" in line
    with pytest.raises(InputError, match="hf:me/none@v1 cannot be downloaded"):
        fastdd.load("hf:me/none@v1", download=True)


def test_a_download_asks_the_library_for_the_revision(
    cache: Path, monkeypatch: pytest.MonkeyPatch, pets: Path
) -> None:
    asked = []

    def download(repository: str, **named: object) -> str:
        asked.append((repository, named))
        return str(put_into(cache, repository, pets))

    monkeypatch.setattr("fastdd.runtime.hub.require_reachable", lambda: None)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    HubSet.of("hf:me/pets@v2").download()
    assert asked == [("me/pets", {"repo_type": "dataset", "revision": "v2"})]


@pytest.mark.parametrize("name", ["hf:", "hf:a/b/c", "hf:../etc", "hf:me/pets@", "hf:me/pe ts"])
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(InputError, match="expected hf:ORG/NAME, or hf:ORG/NAME@REVISION"):
        open_set(name)


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    with pytest.raises(InputError, match=r"hf:me/pets needs huggingface_hub.*pip install 'fastdd\[hub\]'"):
        open_set("hf:me/pets")


# -- Parquet files that are no data set -----------------------------------------------------------


def test_parquet_files_that_are_missing_or_of_several_sets_are_told(pets: Path) -> None:
    (pets / "data/train-00001-of-00002.parquet").unlink()
    with pytest.raises(InputError, match="has 1 of the 2 Parquet files of train; get the others too"):
        open_dataset(pets, "train")
    (pets / "data/train-00000-of-00002.parquet").unlink()
    with pytest.raises(InputError, match="has no Parquet files of train; found those of 'test'"):
        open_dataset(pets, "train")
    for name in ("one", "two"):
        write_table(pets / name / "train-0.parquet", [png(picture(0))], [0], names=["a", "b"])
    with pytest.raises(InputError, match="holds several data sets, in 'one', 'two'; give the folder of one"):
        open_dataset(pets, "train")


def test_links_out_of_the_data_set_in_the_cache_are_refused(cache: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pets"
    for name in ("cat", "dog"):
        write(folder, f"train/{name}/0.png", png(picture(0)))
    snapshot = put_into(cache, "me/pets", folder)
    assert len(open_set("hf:me/pets")) == 2
    write(tmp_path, "secret.png", png(picture(1)))
    (snapshot / "train/cat/1.png").symlink_to(tmp_path / "secret.png")
    with pytest.raises(InputError, match="a link that leads out of the data folder"):
        open_set("hf:me/pets")


# -- sending --------------------------------------------------------------------------------------


class StandIn:
    """Stands in for the hub's API: notes what it is asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, object]]] = []

    def __call__(self) -> StandIn:
        return self

    def create_repo(self, repository: str, **named: object) -> None:
        self.asked.append(("create", {"repository": repository, **named}))

    def upload_folder(self, **named: object) -> str:
        files = sorted(path.name for path in Path(str(named["folder_path"])).rglob("*") if path.is_file())
        self.asked.append(("upload", {**named, "files": files}))
        return "where it is"


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    stand_in = StandIn()
    monkeypatch.setattr(huggingface_hub, "HfApi", stand_in)
    monkeypatch.setattr("fastdd.runtime.hub.require_reachable", lambda: None)
    return stand_in


@pytest.fixture
def send(run: Path, cache: Path, api: StandIn, tmp_path: Path) -> Callable[..., int]:  # noqa: F811
    """Exports the run to ``out`` and pushes it to the stand-in; returns the command's exit status."""
    command = ["export", str(run), "--to", "hf", "--out", str(tmp_path / "out"), "--push", "me/deda"]
    return lambda *more: main([*command, *more])


def test_a_dry_run_sends_nothing_and_says_what_it_would(
    send: Callable[..., int], api: StandIn, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert send("--dry-run") == 0
    assert api.asked == []
    out = capsys.readouterr().out
    assert "would send README.md: " in out
    assert "would send data/train-00000-of-00001.parquet: " in out
    total = sum(path.stat().st_size for path in (tmp_path / "out").rglob("*") if path.is_file())
    assert f"2 files, {total:,} bytes, to the data set me/deda; nothing was sent" in out


def test_an_export_is_sent_with_a_card_that_loads_it_from_the_hub(
    send: Callable[..., int], api: StandIn, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert send() == 0
    assert "sent: where it is" in capsys.readouterr().out
    (created, first), (uploaded, second) = api.asked
    assert (created, first) == ("create", {"repository": "me/deda", "repo_type": "dataset", "exist_ok": True})
    assert (uploaded, second["repo_id"], second["repo_type"]) == ("upload", "me/deda", "dataset")
    assert second["files"] == ["README.md", "train-00000-of-00001.parquet"]
    card = (tmp_path / "out/README.md").read_text()
    assert 'load_dataset("me/deda", split="train")' in card
    assert "60.0 (2 students)" in card
    assert "Protocol house (cafe)" in card
    assert len(CLASSES) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--push", "deda"], "--push 'deda' names no repository of the hub; expected ORG/NAME"),
        (["--dry-run"], "--dry-run says what --push would send; give --push ORG/NAME"),
    ],
)
def test_what_cannot_be_sent_is_told_before_anything_is_written(
    run: Path,  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    out = tmp_path / "out"
    assert main(["export", str(run), "--to", "hf", "--out", str(out), *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not out.exists()


def test_where_sending_fails_the_folder_is_there_and_the_reason_is_told(
    send: Callable[..., int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def refuse(self: StandIn, repository: str, **named: object) -> None:
        raise PermissionError("401 Unauthorized\nmore")

    monkeypatch.setattr(StandIn, "create_repo", refuse)
    out = tmp_path / "out"
    assert send() == 2
    err = capsys.readouterr().err
    assert f"{out} cannot be sent to me/deda (401 Unauthorized); the folder is there: send it" in err
    assert (out / "README.md").is_file()

"""Files, folders and arguments that are refused: status 2, and one line that names what is wrong.

The inputs of recipes are in test_bad_recipes.py, and those of labels in test_bad_labels.py. The summary of
pytest counts all of them by group.
"""

from __future__ import annotations

import io
import os
import shlex
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from pictures import jpeg, picture, png, tar
from safetensors.torch import save_file

from fastdd.cli import main
from fastdd.models.build import build
from fastdd.teachers import Card, Teacher, save_teacher

Make = Callable[[Path], object]
"""makes a bad input in an empty folder, the current one"""
GOOD = png(picture(0))
PIXELS = {"png": GOOD, "jpg": jpeg(picture(1))}


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """The one line that a command ends with; argparse's own refusals have a usage before it."""
    capsys.readouterr()
    try:
        status = main([str(word) for word in words])
    except SystemExit as ended:
        status = ended.code
    out, err = capsys.readouterr()
    assert status == 2, (status, out, err)
    assert "Traceback" not in err
    assert err.count("error: ") == 1
    return err.strip().splitlines()[-1]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, which is the current one."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


# -- roots of data sets, archives and images ---------------------------------------------------------


def images(root: Path, *, names: tuple[str, ...] = ("cat", "dog"), content: bytes = GOOD) -> Path:
    """An image folder with two images of each class in each split."""
    for split in ("train", "test"):
        for name in names:
            (root / split / name).mkdir(parents=True)
            for i in range(2):
                (root / split / name / f"{i}.png").write_bytes(content)
    return root


def pets(change: Make, content: bytes = GOOD) -> Make:
    """An image folder ``pets`` to which something is done."""

    def make(here: Path) -> None:
        change(images(here / "pets", content=content))

    return make


def archive(members: dict[str, bytes], mode: str = "w") -> Make:
    """A tar file ``pets``."""

    def make(here: Path) -> None:
        with tarfile.open(here / "pets", mode) as file:  # type: ignore[call-overload]
            for name, content in members.items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                file.addfile(info, io.BytesIO(content))

    return make


def zipped(members: dict[str, bytes], change: Callable[[bytes], bytes] = lambda whole: whole) -> Make:
    """A zip file ``pets``, changed."""

    def make(here: Path) -> None:
        with zipfile.ZipFile(here / "pets", "w") as file:
            for name, content in members.items():
                file.writestr(name, content)
        (here / "pets").write_bytes(change((here / "pets").read_bytes()))

    return make


def content(data: bytes) -> Make:
    """A file ``pets`` with some bytes."""

    def make(here: Path) -> None:
        (here / "pets").write_bytes(data)

    return make


def shards(train: dict[str, bytes], test: dict[str, bytes] | None = None) -> Make:
    """A WebDataset ``pets`` of a shard a split."""

    def make(here: Path) -> None:
        for split, members in (("train", train), ("val", train if test is None else test)):
            (here / "pets" / split).mkdir(parents=True)
            tar(here / "pets" / split / "0000.tar", list(members.items()))

    return make


def remove(path: Path) -> None:
    """Delete a folder of files."""
    for file in path.iterdir():
        file.unlink() if file.is_file() else remove(file)
    path.rmdir()


TREE = {f"{split}/{name}/0.png": GOOD for split in ("train", "test") for name in ("cat", "dog")}
SAMPLES = {"0.png": GOOD, "0.cls": b"0", "1.png": GOOD, "1.cls": b"1"}
ROOTS: dict[str, tuple[Make, str]] = {
    "nothing": (lambda here: None, "no data at 'pets'"),
    "an empty folder": (lambda here: (here / "pets").mkdir(), "pets"),
    "an empty file": (content(b""), "pets"),
    "a text": (content(b"my images are elsewhere\n"), "pets"),
    "a picture": (content(GOOD), "pets"),
    "a pickle": (content(b"\x80\x04K\x03."), "pets"),
    "a file of zeros": (content(bytes(4096)), "pets"),
    "a link to nothing": (lambda here: os.symlink("gone", here / "pets"), "pets"),
    "a link to itself": (lambda here: os.symlink("pets", here / "pets"), "pets"),
    "a pipe": (lambda here: os.mkfifo(here / "pets"), "pets"),
    "images without classes": (
        lambda here: [(here / "pets").mkdir(), (here / "pets" / "0.png").write_bytes(GOOD)],
        "pets",
    ),
    "no test split": (pets(lambda root: remove(root / "test")), "test"),
    "no training split": (pets(lambda root: remove(root / "train")), "train"),
    "a file for a split": (
        pets(lambda root: [remove(root / "test"), (root / "test").write_bytes(GOOD)]),
        "test",
    ),
    "a class without images": (pets(lambda root: (root / "train/owl").mkdir()), "owl"),
    "a class of one split alone": (pets(lambda root: remove(root / "test/dog")), "dog"),
    "a class of the other split alone": (
        pets(lambda root: remove(root / "train/dog")),
        "expected at least 2",
    ),
    "a class of another spelling": (pets(lambda root: (root / "test/dog").rename(root / "test/Dog")), "dog"),
    "a format that is not read": (
        pets(lambda root: (root / "train/cat/2.webp").write_bytes(b"RIFF")),
        "2.webp",
    ),
    "a folder in a class": (pets(lambda root: (root / "train/cat/more").mkdir()), "more"),
    "a link out of the folder": (
        pets(lambda root: os.symlink("/etc/hostname", root / "train/cat/9.png")),
        "9.png",
    ),
    "a broken link": (pets(lambda root: os.symlink("gone.png", root / "train/cat/9.png")), "9.png"),
    "a tar that is cut": (
        lambda here: [archive(TREE)(here), (here / "pets").write_bytes((here / "pets").read_bytes()[:900])],
        "pets",
    ),
    "a tar of nothing": (archive({}), "pets"),
    "a tar without splits": (archive({"cat/0.png": GOOD}), "pets"),
    "a tar of one split": (archive({"train/cat/0.png": GOOD, "train/dog/0.png": GOOD}), "pets"),
    "a tar that climbs out": (archive(TREE | {"../train/cat/9.png": GOOD}), "../train/cat/9.png"),
    "a gzip that is cut": (
        lambda here: [
            archive(TREE, "w:gz")(here),
            (here / "pets").write_bytes((here / "pets").read_bytes()[:-200]),
        ],
        "pets",
    ),
    "an xz that is cut": (
        lambda here: [
            archive(TREE, "w:xz")(here),
            (here / "pets").write_bytes((here / "pets").read_bytes()[:-200]),
        ],
        "pets",
    ),
    "a gzip of no tar": (content(__import__("gzip").compress(b"hello")), "pets"),
    "a zip of nothing": (zipped({}), "pets"),
    "a zip that is cut": (zipped(TREE, lambda whole: whole[:-30]), "pets"),
    "a zip that climbs out": (zipped(TREE | {"../x/cat/9.png": GOOD}), "../x/cat/9.png"),
    "a zip with a broken member": (zipped(TREE, lambda whole: whole[:60] + b"\0\0\0\0" + whole[64:]), "pets"),
    "a seven-zip": (content(b"7z\xbc\xaf\x27\x1c" + bytes(100)), "pets"),
    "a zstandard file": (content(b"\x28\xb5\x2f\xfd" + bytes(100)), "pets"),
    "a rar": (content(b"Rar!\x1a\x07\x01\x00" + bytes(100)), "pets"),
    "shards without labels": (shards({"0.png": GOOD, "1.png": GOOD}), "pets"),
    "shards without images": (shards({"0.cls": b"0", "1.cls": b"1"}), "pets"),
    "a sample without a label": (shards(SAMPLES | {"2.png": GOOD}), "2"),
    "an empty label": (shards(SAMPLES | {"2.png": GOOD, "2.cls": b""}), "2.cls"),
    "a label with a slash": (shards(SAMPLES | {"2.png": GOOD, "2.cls": b"a/b"}), "2.cls"),
    "a label of dots": (shards(SAMPLES | {"2.png": GOOD, "2.cls": b".."}), "2.cls"),
    "two images of a sample": (shards(SAMPLES | {"0.jpg": PIXELS["jpg"]}), "0.jpg"),
    "a label without an image": (shards(SAMPLES | {"2.cls": b"0"}), "2"),
    "shards whose splits differ": (shards(SAMPLES, {"0.png": GOOD, "0.cls": b"0"}), "pets"),
    "a shard that is a text": (
        lambda here: [shards(SAMPLES)(here), (here / "pets/train/0000.tar").write_text("x")],
        "0000.tar",
    ),
    "an empty shard": (
        lambda here: [shards(SAMPLES)(here), (here / "pets/train/0000.tar").write_bytes(b"")],
        "0000.tar",
    ),
}


@pytest.mark.bad_input("data roots and archives")
@pytest.mark.parametrize("kind", ROOTS)
def test_a_root_that_is_no_data_set_is_named(
    kind: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make, part = ROOTS[kind]
    make(here)
    assert part in refused(capsys, "data", "show", "pets")


NAMES = {
    "a function of no module": ("nowhere.at.all:images", "nowhere"),
    "no function of a module": ("json:images", "json"),
    "a module that is no function": ("json:", "json"),
    "a number": ("3", "'3'"),
    "nothing": ("", ""),
    "a pattern of no file": ("shards/{split}-{0000..0003}.tar", "shards/"),
    "a pattern without an end": ("shards/{0000..0003.tar", "shards/"),
    "a path with a line break": ("a\nb", "a"),
    "a path of 5000 letters": (5000 * "a", "a"),
    "a path of 300 letters in a name": (f"x/{300 * 'a'}/y", "x/"),
    "an unknown source": ("s3:bucket/images", "s3:bucket/images"),
    "an address": ("https://example.org/images.tar", "https://example.org/images.tar"),
    "a device": ("/dev/null", "/dev/null"),
}


@pytest.mark.bad_input("data roots and archives")
@pytest.mark.parametrize("kind", NAMES)
def test_a_name_that_is_no_root_is_named(kind: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, part = NAMES[kind]
    assert part in refused(capsys, "data", "show", root)


IMAGES = {
    "nothing": b"",
    "a text": b"no image",
    "a PNG that is cut": GOOD[:60],
    "a PNG without its end": GOOD[:-12],
    "a PNG of another checksum": GOOD[:45] + b"\xff" + GOOD[46:],
    "a PNG's signature alone": GOOD[:8],
    "a PNG of no width": GOOD[:16] + bytes(4) + GOOD[20:],
    "a PNG of a huge width": GOOD[:16] + b"\x7f\xff\xff\xff" + GOOD[20:],
    "a JPEG that is cut": PIXELS["jpg"][:200],
    "a JPEG's beginning alone": PIXELS["jpg"][:2],
    "a GIF": b"GIF89a" + bytes(40),
    "a BMP": b"BM" + bytes(60),
    "a WebP": b"RIFF\x24\0\0\0WEBPVP8 " + bytes(24),
    "a page": b"<html><body>404 Not Found</body></html>",
    "a pointer of Git LFS": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n",
}


@pytest.mark.bad_input("images")
@pytest.mark.parametrize("kind", IMAGES)
def test_an_image_that_is_none_is_listed(kind: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images(here / "pets")
    (here / "pets/train/cat/1.png").write_bytes(IMAGES[kind])
    assert main(["data", "check", "pets"]) == 1
    out, err = capsys.readouterr()
    assert out.startswith("'train/cat/1.png' ")
    assert out.endswith("pets: 1 problem\n")
    assert "Traceback" not in err


# -- weights -----------------------------------------------------------------------------------------

STATE = {name: tensor.clone() for name, tensor in build("resnet8", 10, 1).state_dict().items()}


def tensors(state: dict[str, torch.Tensor]) -> Make:
    """A safetensors file ``w.safetensors``."""

    def make(here: Path) -> None:
        save_file(state, here / "w.safetensors")

    return make


def pickled(whole: object) -> Make:
    """The file of torch.save, under the same name: what a file holds decides, not its name."""

    def make(here: Path) -> None:
        torch.save(whole, here / "w.safetensors")

    return make


def raw(data: bytes) -> Make:
    """Some bytes under that name."""

    def make(here: Path) -> None:
        (here / "w.safetensors").write_bytes(data)

    return make


def card(**changes: object) -> Make:
    """A teacher whose card says something else."""

    def make(here: Path) -> None:
        said = {"network": "resnet8", "classes": tuple("0123456789"), "channels": 1} | changes
        teacher = Teacher(build("resnet8", 10, 1), Card(**said, mean=(0.3,), std=(0.4,)))  # type: ignore[arg-type]
        save_teacher(here / "w.safetensors", teacher)

    return make


def header(text: str, size: int | None = None) -> bytes:
    """The beginning of a safetensors file."""
    data = text.encode()
    return (len(data) if size is None else size).to_bytes(8, "little") + data


WEIGHTS: dict[str, tuple[Make, str]] = {
    "no file": (lambda here: None, "w.safetensors does not exist"),
    "a folder": (lambda here: (here / "w.safetensors").mkdir(), "w.safetensors"),
    "an empty file": (raw(b""), "w.safetensors"),
    "a text": (raw(b"weights"), "w.safetensors"),
    "a page": (raw(b"<html>404</html>"), "w.safetensors"),
    "a picture": (raw(GOOD), "w.safetensors"),
    "a pointer of Git LFS": (raw(IMAGES["a pointer of Git LFS"]), "w.safetensors"),
    "a header that is longer than the file": (raw(header("{}", 10**6)), "w.safetensors"),
    "a header of 2^63 bytes": (raw(header("{}", 2**63)), "w.safetensors"),
    "a header that is a list": (raw(header("[]")), "w.safetensors"),
    "a header that is no JSON": (raw(header("{a")), "w.safetensors"),
    "a header without its tensors": (
        raw(header('{"conv1.weight":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}')),
        "w.safetensors",
    ),
    "an unknown dtype": (
        raw(header('{"conv1.weight":{"dtype":"Q3","shape":[1],"data_offsets":[0,1]}}') + b"0"),
        "w.safetensors",
    ),
    "no tensors": (tensors({}), "w.safetensors"),
    "one tensor of many": (tensors({"conv1.weight": STATE["conv1.weight"]}), "w.safetensors"),
    "a tensor too many": (tensors(STATE | {"extra.weight": torch.zeros(2)}), "extra.weight"),
    "a tensor too few": (
        tensors({name: t for name, t in STATE.items() if name != "conv1.weight"}),
        "conv1.weight",
    ),
    "another shape": (tensors(STATE | {"conv1.weight": torch.zeros(16, 3, 3, 3)}), "conv1.weight"),
    "integers": (tensors(STATE | {"conv1.weight": STATE["conv1.weight"].int()}), "conv1.weight"),
    "no numbers": (tensors(STATE | {"conv1.weight": STATE["conv1.weight"] * torch.nan}), "conv1.weight"),
    "infinite numbers": (tensors(STATE | {"conv1.weight": STATE["conv1.weight"] / 0}), "conv1.weight"),
    "other classes": (
        tensors({name: t.clone() for name, t in build("resnet8", 7, 1).state_dict().items()}),
        "classes",
    ),
    "another network": (
        tensors({name: t.clone() for name, t in build("convnet3", 10, 1).state_dict().items()}),
        "w.safetensors",
    ),
    "a pickled number": (pickled(3), "w.safetensors"),
    "a pickled list": (pickled([torch.zeros(2)]), "w.safetensors"),
    "a pickled network": (pickled(torch.nn.Linear(2, 2)), "w.safetensors"),
    "a pickle that calls": (raw(b"cos\nsystem\n(S'touch called'\ntR."), "w.safetensors"),
    "a pickle of torch that is cut": (
        lambda here: [
            pickled(STATE)(here),
            (here / "w.safetensors").write_bytes((here / "w.safetensors").read_bytes()[:5000]),
        ],
        "w.safetensors",
    ),
    "keys that are numbers": (pickled({1: torch.zeros(2)}), "w.safetensors"),
    "a checkpoint without weights": (pickled({"epoch": 3, "optimizer": {}}), "w.safetensors"),
    "a card of another network": (card(network="resnet20"), "resnet20"),
    "a card of an unknown network": (card(network="resnet21"), "resnet21"),
    "a card of other classes": (card(classes=tuple("abcdefghij")), "class 0 is 'a'"),
    "a card of fewer classes": (card(classes=("a", "b")), "classes"),
    "a card of three channels": (card(channels=3), "channels"),
    "a card whose accuracy is a percentage": (card(accuracy=91.5), "accuracy"),
}
TINY = """\
data: {root: digits, channels: 1}
teacher: {network: resnet8, mean: [0.3], std: [0.4], weights: w.safetensors}
arms: {deda: {method: deda, steps: 1}}
student: {network: resnet8, steps: 1, batch: 10, seeds: 1}
"""


@pytest.mark.bad_input("weights")
@pytest.mark.parametrize("kind", WEIGHTS)
def test_weights_that_do_not_fit_are_named(kind: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make, part = WEIGHTS[kind]
    make(here)
    (here / "own.yaml").write_text(TINY)
    assert part in refused(capsys, "squeeze", "own.yaml", "--out", "out")
    assert not (here / "out" / "teacher.safetensors").exists()
    assert not (here / "called").exists()


# -- arguments ---------------------------------------------------------------------------------------

ARGUMENTS = """\
distil digits -> invalid choice: 'distil'
run -> RECIPE
run digts -> unknown recipe 'digts' (did you mean 'digits'?)
run digits-deda -> unknown recipe 'digits-deda'
run cifar10 -> 'cifar10' is a data set; say with which method
run own.yml -> recipe file own.yml does not exist
run folder.yaml -> folder.yaml
run digits --ipc=3 -> unrecognized arguments: --ipc=3
run digits ipc -> 'ipc'
run digits ipc 3 -> 'ipc'
run digits --out -> --out
run digits --out file.txt -> file.txt is a file
run digits --out file.txt/below -> cannot write file.txt/below
run digits --out pets -> pets exists and is no run folder
run digits --out pets --fresh -> pets exists and is no run folder
run digits --add dir -> unknown addition 'dir' (did you mean 'dire'?)
run digits --add -> --add
run small.yaml device=warp -> device 'warp'
run small.yaml device=cuda:99 -> cuda:99
run small.yaml device=meta -> device 'meta'
run small.yaml device= -> device ''
run small.yaml data.root=nowhere -> no data at 'nowhere'
run small.yaml teacher.network=resnet21 -> unknown network 'resnet21'
run small.yaml student.network=vgg -> unknown network 'vgg'
run small.yaml student.network= -> student.network
run small.yaml ipc=200 -> ipc
run small.yaml metrics.nearest_k=100000 -> metrics.nearest_k is 100000
run digits students.convnet-soft.network=resnet21 -> unknown network 'resnet21'
bank small.yaml --classes 3 -> '3' must look like FIRST:STOP
bank small.yaml --classes 3: -> '3:' must look like FIRST:STOP
bank small.yaml --classes a:b -> 'a:b' must look like FIRST:STOP
bank small.yaml --classes -1:2 -> --classes
bank small.yaml --classes 5:3 -> 5:3
bank small.yaml --classes 3:3 -> 3:3
bank small.yaml --classes 0:99 -> 99
recover digits --units 1.5:2 -> '1.5:2' must look like FIRST:STOP
recover digits --units 0:3 -> leave out --units
recover digits --classes 0:1 -> unrecognized arguments: --classes
squeeze digits --units 0:1 -> unrecognized arguments: --units
show -> RECIPE
show digts -> unknown recipe 'digts'
show digits ipc=zero -> got 'zero'
show pets -> unknown recipe 'pets'
recipes digits -> unrecognized arguments: digits
status -> DIR
status nowhere -> nowhere
status file.txt -> file.txt
status pets -> pets
report nowhere -> nowhere
report file.txt -> file.txt
report pets -> pets
report pets nowhere -> pets
data -> data_command
data look pets -> invalid choice: 'look'
data show nowhere -> no data at 'nowhere'
data show file.txt -> file.txt
data check nowhere -> no data at 'nowhere'
sweep digits -> --grid
sweep digits --grid -> --grid
sweep digits --grid ipc -> 'ipc' must look like KEY=VALUE,VALUE
sweep digits --grid ipc= -> 'ipc=' has no values
sweep digits --grid =1,2 -> '=1,2' must look like KEY=VALUE,VALUE
sweep digits --grid ipcc=1,2 -> unknown key 'ipcc'
sweep digits --grid ipc=1,one -> got 'one'
sweep digits --grid ipc=1,1 -> the value 1 twice
sweep digits --grid ipc=1,2 --grid ipc=3,4 -> both set ipc
sweep digits --grid ipc=1,2 --seeds none -> invalid int value: 'none'
sweep digits --grid ipc=1,2 --seeds 0 -> seeds
sweep digits --grid seed=0,1 --out file.txt -> file.txt
plot nowhere -> run folder nowhere does not exist
plot file.txt -> file.txt is a file, expected the folder that `fastdd run` wrote
plot pets -> pets is no run folder: it has no recipe.yaml
students export nowhere --out new -> run folder nowhere does not exist
students export file.txt --out new -> file.txt is a file
students export pets --out new -> pets is no run folder
report pets --title '' -> an argument is an empty text
status '' -> an argument is an empty text
export pets --to hf --out '' -> an argument is an empty text
slurm digits --nodes 99999999999999999999999 -> a number of at most 65,533
slurm digits --gpus -1 -> '-1' must be a number
merge -> BANK
merge pets -> --out
merge nowhere --out new -> nowhere holds no bank
merge pets pets --out new -> pets holds no bank
merge file.txt --out new -> file.txt
merge run --out new -> run holds no bank, but something else; a run's bank is its folder bank
metrics pets --features torchvison:resnet18 --random-weights -> (did you mean 'torchvision'?)
export pets -> --to
export pets --to zip -> 'zip'
export nowhere --to hf -> nowhere
export file.txt --to hf -> file.txt
export empty --to hf -> empty
export pets --to imagefolder --out file.txt -> file.txt is a file
export pets --to imagefolder --out pets -> pets is not empty
export pets --to imagefolder --size 0 -> 0
export pets --to imagefolder --size -3 -> -3
export pets --to imagefolder --size big -> invalid int value: 'big'
export pets --to webdataset --shard-mb 0 -> 0
export pets --to webdataset --shard-mb nan -> nan
export pets --to webdataset --shard-mb -1 -> -1
export pets --to imagefolder --arm deda -> deda
metrics nowhere -> nowhere
metrics pets -> --teacher
metrics pets --features resnet18 -> resnet18
metrics pets --features torchvision:resnet18 -> --weights
metrics pets --features torchvision:resnet21 --random-weights -> resnet21
metrics pets --features torchvision:resnet18 --weights gone.pth -> gone.pth
metrics pets --teacher gone.safetensors -> gone.safetensors
metrics pets --k few -> invalid int value: 'few'
metrics pets --features torchvision:resnet18 --random-weights -> --real
metrics pets --json file.txt -> file.txt
evaluate nowhere -> nowhere
evaluate pets -> --teacher
evaluate pets --fresh -> --fresh
evaluate pets --out new -> --out
evaluate pets --add dire -> --add
evaluate pets --seeds none -> invalid int value: 'none'
evaluate pets --teacher gone.safetensors -> gone.safetensors
evaluate digits --student convnet -> --student
evaluate digits --json out.json -> --json
evaluate digits --no-control -> --no-control
robust nowhere -> nowhere
robust pets --weight 2 -> 2
robust pets --weight nan -> nan
robust pets --weight half -> invalid float value: 'half'
robust pets -> --teacher
labels -> COMMAND
labels show nowhere -> nowhere
labels show pets -> pets
labels show file.txt -> file.txt
labels export-fkd pets --out new -> pets
labels export-fkd nowhere --out new -> nowhere
labels import-fkd nowhere pets --out new -> nowhere
labels import-fkd pets pets --out new -> pets holds no FKD labels
labels import-fkd file.txt pets --out new -> file.txt
labels import-fkd pets nowhere --out new -> nowhere
labels import-fkd pets pets --out new --form fp8 -> invalid choice: 'fp8'
labels import-fkd pets pets --out new --classes 0 -> 0
labels import-fkd pets pets --out pets -> pets holds no FKD labels
"""


def arguments() -> list[object]:
    """A parameter for each row: the words of the command, and a part of its last line."""
    found = []
    for row in ARGUMENTS.splitlines():
        words, _, part = row.partition(" ->")
        found.append(pytest.param(shlex.split(words), part.strip(), id=words))
    return found


@pytest.mark.bad_input("arguments")
@pytest.mark.parametrize(("words", "part"), arguments())
def test_an_argument_that_cannot_be_meant_is_named(
    words: list[str], part: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images(here / "pets")
    remove(here / "pets/test")
    (here / "pets/train").rename(here / "train")
    remove(here / "pets")
    (here / "train").rename(here / "pets")
    (here / "file.txt").write_text("years of work")
    (here / "empty").mkdir()
    (here / "run").mkdir()
    (here / "run/manifest.json").write_text('{"name": "a run"}')
    (here / "folder.yaml").mkdir()
    (here / "small.yaml").write_text(TINY.replace(", weights: w.safetensors", ""))
    before = sorted(here.rglob("*"))
    assert part in refused(capsys, *words)
    assert sorted(here.rglob("*")) == before
    assert (here / "file.txt").read_text() == "years of work"

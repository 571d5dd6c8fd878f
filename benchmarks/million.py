"""Every stage before the students on a data set with the shape of ImageNet-1K, 1.28 million small JPEG files.

    python benchmarks/million.py --folder /tmp/million [--files 1281167] [--works A,B] [--json FILE] [--keep]

The files are a few JPEGs of 8 x 8 pixels again and again, under valid names and in 1,000 classes: WebDataset
shards of 10,000 samples in random class order, 3.3 GB at the full number, and an image folder. Both are made
in the folder, measured, and removed unless they are to be kept. Each figure is of a process of its own:
seconds by the wall, processor seconds, and the largest resident set, of which importing torch is a part,
given too; what is smaller than this process is told as large as that. What takes hours at the full size is
done for a share of it, which stands beside the figure. The figures of other works that the JSON file has
already stay.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torchvision.io import encode_jpeg

from fastdd.recipes.resolve import resolve
from fastdd.run_folder import RunFolder, open_run
from fastdd.run_folder.bank_files import MANIFEST
from fastdd.runtime.files import write_json, write_text

CLASSES, SHARD, BLOCK = 1000, 10_000, 512
SMALL = 8
"""side of an image in pixels"""
PICTURES = 16
"""different images"""
PER_CLASS, IPC, WIDTH = 1281, 50, 512
"""real images a class, distilled images a class, and width of embeddings"""


class Work(NamedTuple):
    """What is measured.

    Attributes:
        code: Python, in which ROOT is the data set and HERE a folder for results.
        of: the layouts that it is measured on; none: it reads no data set.
        share: part of the whole work that it does.
    """

    code: str
    of: tuple[str, ...] = ("shards", "folder")
    share: float = 1.0


OPEN = "from fastdd.data import open_dataset\nprint(len(open_dataset(ROOT, 'train')))"
FEATURES = "import torch\nfrom fastdd_kernels import coverage\nrandn = torch.Generator().manual_seed(0)\n"
COVERAGE = FEATURES + (
    "real, made = (torch.randn(rows, 512, generator=randn) for rows in (REAL, MADE))\n"
    "print(coverage(real, made, 5))"
)
BALLS = FEATURES + (
    "real, made = torch.empty(1281167, 512).uniform_(-1, 1), torch.randn(50000, 512)\n"
    "print(coverage(real, made[:500], 5, real_radii=torch.ones(1281167, dtype=torch.float64)))"
)
BANK = (
    "import sys\nfrom fastdd.cli import main\nfrom fastdd.models.build import build\n"
    "from safetensors.torch import save_file\n"
    "save_file(build('resnet18', 1000).state_dict(), HERE + '/resnet18.safetensors')\n"
    "sys.exit(main(['bank', 'imagenet1k-deda', '--classes', '0:CLASSES', '--out', HERE + '/run', '--fresh',\n"
    "    f'data.root={ROOT}', 'data.size=64', 'data.resize=null', 'teacher.minimum_accuracy=0',\n"
    "    f'teacher.weights={HERE}/resnet18.safetensors']))"
)
SELECT = (
    "import torch\nfrom fastdd.models.build import build\nfrom fastdd.recover.init.selection import select\n"
    "network, randn = build('resnet18', 1000), torch.Generator().manual_seed(0)\n"
    "for c in range(20):\n"
    "    x = torch.randn(1281, 512, generator=randn)\n"
    "    select(KIND, 1281, c, embeddings=x, scores=None, network=network, count=50, seed=c)"
)
LABELS = (
    "import torch\nfrom fastdd.bench.subjects.bank import random_teacher\n"
    "from fastdd.labels.per_image import label_images\n"
    "images = torch.zeros(50000, 3, 64, 64, dtype=torch.uint8)\n"
    "print(label_images(random_teacher('resnet18', 1000, torch.device('cpu')), images[:2500], 'set').shape)"
)
SCORES = (
    "import torch\nfrom fastdd.evaluate import measure\n"
    "labels = torch.arange(1000).repeat_interleave(IPC)\n"
    "real, made = torch.randn(len(labels), 512), torch.randn(len(labels), 512)\n"
    "print(measure(real, labels, made, labels, k=5).whole)"
)

STATUS = "import sys\nfrom fastdd.cli import main\nsys.exit(main(['status', HERE + '/status']))"


def coverage(real: int, made: int) -> str:
    """Code for the coverage of so many real rows by so many distilled ones."""
    return COVERAGE.replace("REAL", str(real)).replace("MADE", str(made))


WORKS = {
    "import": Work("import fastdd.data", of=()),
    "status": Work(STATUS, of=()),
    "index": Work(OPEN),
    "index again": Work(OPEN, of=("shards",)),
    "scan": Work("from fastdd.data import scan\nprint(len(scan(ROOT, 'train')))"),
    "check": Work("from fastdd.data import check\nprint(len(check(ROOT)))"),
    "bank of 1 class": Work(BANK.replace("CLASSES", "1"), ("shards",), 1 / CLASSES),
    "bank of 4 classes": Work(BANK.replace("CLASSES", "4"), ("shards",), 4 / CLASSES),
    "selection kmeans": Work(SELECT.replace("KIND", "'kmeans'"), (), 20 / CLASSES),
    "selection confident": Work(SELECT.replace("KIND", "'confident'"), (), 20 / CLASSES),
    "selection herding": Work(SELECT.replace("KIND", "'herding'"), (), 20 / CLASSES),
    "balls of all real rows": Work(BALLS, (), 500 / (IPC * CLASSES)),
    "coverage at a fortieth": Work(coverage(32_029, 1_250), (), 1 / 1600),
    "coverage at a twentieth": Work(coverage(64_058, 2_500), (), 1 / 400),
    "coverage at a tenth": Work(coverage(128_117, 5_000), (), 1 / 100),
    "labels of images": Work(LABELS, (), 2500 / (IPC * CLASSES)),
    "scores of 10 a class": Work(SCORES.replace("IPC", "10"), ()),
    "scores of 50 a class": Work(SCORES.replace("IPC", "50"), ()),
}


def pictures() -> list[bytes]:
    """Some JPEG files of a few hundred bytes."""
    random = torch.Generator().manual_seed(0)
    images = torch.randint(256, (PICTURES, 3, SMALL, SMALL), dtype=torch.uint8, generator=random)
    return [bytes(encode_jpeg(image, 50).numpy()) for image in images]


def header(name: str, size: int) -> np.ndarray:
    """A tar header, uint8 [512], whose checksum is left out."""
    block = bytearray(BLOCK)
    block[: len(name)] = name.encode()
    for at, text in ((100, "0000644"), (108, "0000000"), (116, "0000000"), (124, f"{size:011o}")):
        block[at : at + len(text)] = text.encode()
    block[136:147] = b"00000000000"
    block[156:157] = b"0"
    block[257:265] = b"ustar\x0000"
    return np.frombuffer(bytes(block), np.uint8)


def write_digits(blocks: np.ndarray, at: int, numbers: np.ndarray, digits: int, base: int = 10) -> None:
    """Write a number with leading zeros into each row of uint8 blocks."""
    for place in range(digits):
        blocks[:, at + digits - 1 - place] = 48 + numbers // base**place % base


def seal(headers: np.ndarray) -> None:
    """Write the checksum of each header."""
    headers[:, 148:156] = 32
    write_digits(headers, 148, headers.sum(1, dtype=np.int64), 6, base=8)
    headers[:, 154] = 0


def write_shard(path: Path, first: int, labels: np.ndarray, picture: bytes) -> None:
    """A shard of samples NNNNNNN.jpg with NNNNNNN.cls."""
    body = -(-len(picture) // BLOCK) * BLOCK
    size = BLOCK + body + 2 * BLOCK
    blocks = np.zeros((len(labels), size), np.uint8)
    blocks[:, :BLOCK] = header("0000000.jpg", len(picture))
    blocks[:, BLOCK : BLOCK + len(picture)] = np.frombuffer(picture, np.uint8)
    label = BLOCK + body
    blocks[:, label : label + BLOCK] = header("0000000.cls", 3)
    numbers = first + np.arange(len(labels))
    for at in (0, label):
        write_digits(blocks, at, numbers, 7)
        seal(blocks[:, at : at + BLOCK])
    write_digits(blocks, label + BLOCK, labels, 3)
    with open(path, "wb") as file:
        file.write(blocks.data)
        file.write(bytes(2 * BLOCK))


def make_shards(root: Path, files: int) -> None:
    """Shards of both splits; the test split has one image a class."""
    labels = np.random.default_rng(0).integers(CLASSES, size=files)
    labels[:CLASSES] = np.arange(CLASSES)
    some = pictures()
    for split, own in (("train", labels), ("test", np.arange(CLASSES))):
        (root / split).mkdir(parents=True)
        for number, first in enumerate(range(0, len(own), SHARD)):
            part = own[first : first + SHARD]
            write_shard(root / split / f"{number:05d}.tar", first, part, some[number % PICTURES])


def make_folder(root: Path, files: int) -> None:
    """An image folder of the same few contents."""
    some = pictures()
    for split, count in (("train", files // CLASSES), ("test", 1)):
        for c in range(CLASSES):
            folder = root / split / f"n{c:08d}"
            folder.mkdir(parents=True)
            for number in range(count):
                (folder / f"{number:07d}.jpg").write_bytes(some[number % PICTURES])


def make_run(path: Path) -> None:
    """A run folder with the images and labels of 50 images a class, which are empty files."""
    recipe = resolve("imagenet1k-deda", ["ipc=50", "recover.unit_images=100"]).recipe
    open_run(path, recipe)
    run = RunFolder(path)
    bank = {"classes": [f"n{c:08d}" for c in range(CLASSES)]}
    write_json(run.bank() / MANIFEST, bank)
    for c in range(CLASSES):
        (run.bank() / f"classes-{c:05d}-{c:05d}.safetensors").touch()
    run.teacher().touch()
    for arm, units in (("random", 1), ("deda", IPC * CLASSES // 100)):
        for unit in range(units):
            write_text(run.unit(arm, unit), "{}")
        for c in range(CLASSES):
            folder = run.images(arm) / f"{c:05d}"
            folder.mkdir(parents=True)
            for number in range(IPC):
                (folder / f"{number:05d}.png").touch()
        for epoch in range(300):
            write_text(run.labels(arm, "view") / f"epoch_{epoch:05d}.safetensors", "")


def measured(work: Work, root: Path | None, here: Path) -> dict[str, float]:
    """A work in a process of its own."""
    given = f"ROOT, HERE = {str(root)!r}, {str(here)!r}\n"
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-c", given + work.code], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{work.code!r} ended with status {status}")
    share = {} if work.share == 1 else {"share": work.share}
    return share | {
        "seconds": round(time.perf_counter() - start, 2),
        "processor seconds": round(usage.ru_utime + usage.ru_stime, 2),
        "largest resident MB": round(usage.ru_maxrss * 1024 / 1e6),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--folder", type=Path, help="where the files are made (default: a temporary folder)")
    parser.add_argument("--files", type=int, default=1_281_167)
    parser.add_argument("--layouts", default="shards,folder", help="NAMES, with commas between")
    parser.add_argument("--works", default=",".join(WORKS), help="NAMES, with commas between")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--keep", action="store_true", help="leave the files there, for a further call")
    options = parser.parse_args()
    above = options.folder or Path(tempfile.mkdtemp())
    found: dict[str, object] = {"files": options.files, "threads": torch.get_num_threads()}
    if options.json and options.json.exists():
        found |= json.loads(options.json.read_text(encoding="utf-8"))
    os.environ["FASTDD_CACHE"] = str(above / "cache")

    def note(name: str, figures: dict[str, float]) -> None:
        found[name] = figures
        print(f"{name}: {figures}", flush=True)
        if options.json:
            options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")

    above.mkdir(parents=True, exist_ok=True)
    works = {name: WORKS[name] for name in options.works.split(",")}
    try:
        if "status" in works and not (above / "status").exists():
            make_run(above / "status")
        for name, work in works.items():
            if not work.of:
                note(name, measured(work, None, above))
        for layout, make in {"shards": make_shards, "folder": make_folder}.items():
            own = {name: work for name, work in works.items() if layout in work.of}
            if layout not in options.layouts.split(",") or not own:
                continue
            if not (above / layout).exists():
                make(above / layout, options.files)
                time.sleep(3)  # no index is kept of files that changed just now
            for name, work in own.items():
                note(f"{layout} {name}", measured(work, above / layout, above))
    finally:
        if not options.keep:
            for name in ("shards", "folder", "cache", "run", "status"):
                shutil.rmtree(above / name, ignore_errors=True)


if __name__ == "__main__":
    main()

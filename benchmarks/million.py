"""Index, scan and check of a data set with the shape of ImageNet-1K: 1.28 million small JPEG files.

    python benchmarks/million.py --folder /tmp/million [--files 1281167] [--json FILE]

The files are a few JPEGs of 8 x 8 pixels again and again, under valid names and in 1,000 classes: WebDataset
shards of 10,000 samples in random class order, 3.3 GB at the full number, and an image folder of a tenth of
them. Both are made in the folder, measured and removed. Each figure is of a process of its own: seconds by
the wall, processor seconds, and the largest resident set, of which importing torch is a part, given too.
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

import numpy as np
import torch
from torchvision.io import encode_jpeg

CLASSES, SHARD, BLOCK = 1000, 10_000, 512
SMALL = 8
"""side of an image in pixels"""
PICTURES = 16
"""different images"""
WORKS = {
    "import": "import fastdd.data",
    "index": "from fastdd.data import open_dataset\nprint(len(open_dataset(ROOT, 'train')))",
    "index again": "from fastdd.data import open_dataset\nprint(len(open_dataset(ROOT, 'train')))",
    "scan": "from fastdd.data import scan\nprint(len(scan(ROOT, 'train')))",
    "check": "from fastdd.data import check\nprint(len(check(ROOT)))",
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


def measured(work: str, root: Path) -> dict[str, float]:
    """A work in a process of its own."""
    text = WORKS[work].replace("ROOT", repr(str(root)))
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{work} of {root} ended with status {status}")
    return {
        "seconds": round(time.perf_counter() - start, 2),
        "processor seconds": round(usage.ru_utime + usage.ru_stime, 2),
        "largest resident MB": round(usage.ru_maxrss * 1024 / 1e6),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Index, scan and check 1.28 million files.")
    parser.add_argument("--folder", type=Path, help="where the files are made (default: a temporary folder)")
    parser.add_argument("--files", type=int, default=1_281_167)
    parser.add_argument("--works", default=",".join(WORKS), help="NAMES, with commas between")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    above = options.folder or Path(tempfile.mkdtemp())
    found: dict[str, object] = {"files": options.files}
    try:
        makers = {"shards": (make_shards, options.files), "folder": (make_folder, options.files // 10)}
        for name, (make, files) in makers.items():
            start = time.process_time()
            make(above / name, files)
            print(
                f"{name}: {files} files made in {time.process_time() - start:.1f} s of processor", flush=True
            )
            for work in options.works.split(","):
                figures = measured(work, above / name)
                found[f"{name} {work}"] = figures
                print(f"{name} {work}: {figures}", flush=True)
                if options.json:
                    options.json.write_text(json.dumps(found, indent=1) + "\n")
    finally:
        for name in ("shards", "folder"):
            shutil.rmtree(above / name, ignore_errors=True)


if __name__ == "__main__":
    main()

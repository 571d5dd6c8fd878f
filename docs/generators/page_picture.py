"""The picture of a page, for README and the first page: `python docs/generators/page_picture.py runs/digits`.

Chromium draws `report.html` of the run without a window. The picture ends below the table of results."""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

WIDTH, HEIGHT = 1120, 1890
"""pixels: the page down to the table of results, for six arms"""


def draw(page: Path, out: Path) -> None:
    """Draw the top of a page with few colors, which halves the file.

    Raises:
        subprocess.CalledProcessError: Chromium failed.
    """
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        sys.exit("no chromium and no google-chrome is installed")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "page.png"
        options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        command = [browser, *options, f"--window-size={WIDTH},{HEIGHT}", f"--screenshot={file}"]
        subprocess.run([*command, page.resolve().as_uri()], check=True, capture_output=True, timeout=120)
        with Image.open(file) as picture:
            top = picture.convert("RGB").crop((0, 0, WIDTH, min(HEIGHT, picture.height)))
    top.quantize(128, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(out, optimize=True)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="the folder of a finished run")
    parser.add_argument("--out", type=Path, default=Path("docs/report.png"))
    arguments = parser.parse_args()
    draw(arguments.run / "report.html", arguments.out)
    print(f"{arguments.out}: {arguments.out.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()

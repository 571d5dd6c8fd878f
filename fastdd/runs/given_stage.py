"""Finished sets in a run folder: their files and their soft labels (given_sets.py opens them).

The encoded files are copied, so that pixels, bytes and formations stay what they are; a file of another
format than the arm's is written again without loss. From then on the arm is one like any other.
"""

from __future__ import annotations

from torch import Tensor
from torchvision.io import encode_png

from ..config import Given
from ..data.decode import decode
from ..distilled.runs import learned_lr
from ..run_folder import UnitLog, image_file, write
from ..runtime.distributed import barrier, is_main
from ..runtime.files import write_bytes
from .given_sets import JPEG, OpenSet, reopen, require_same
from .run import Run


def take_given(run: Run, arm: str, given: Given) -> None:
    """Copy the images of an arm's set into the run folder, unless they are there; all processes come.

    Raises:
        InputError: the set is gone or has changed.
    """
    barrier()  # all have come before the arm is marked as taken
    if is_main() and not run.folder.unit(arm, 0).is_file():
        with run.session.stage(f"take {arm}") as work:
            found = _open(run, given)
            work.images = _copy(run, arm, found)
        slots = range(run.experiment.seen(arm))
        log = UnitLog(rows=tuple((c, s) for c in range(len(found.counts)) for s in slots), losses=())
        source = found.set.source
        if source is not None and (rate := learned_lr(source.folder, source.arm)) is not None:
            log = log.model_copy(update={"learned": {"lr": rate}})
        write(run.folder.unit(arm, 0), log)
    barrier()


def _copy(run: Run, arm: str, found: OpenSet) -> int:
    """Copy the files of a set, and return how many there are."""
    form, count = run.experiment.arms[arm].save.format, 0
    folder, classes = run.folder.images(arm), run.experiment.classes
    for c, number, content in found.files(run.experiment.recipe.ipc):
        if form == "png" and content.startswith(JPEG):
            pixels = decode(bytearray(content), run.experiment.real.shape[0])
            content = bytes(encode_png(pixels).numpy())
        write_bytes(image_file(folder, classes[c], number, form), content)
        count += 1
    return count


def given_labels(run: Run, arm: str) -> Tensor | None:
    """The soft labels that came with an arm's images, float16 [N, classes]; None: none did.

    Raises:
        InputError: the set is gone or has changed.
    """
    given = run.experiment.arms[arm].given
    if given is None or not given.labels:
        return None
    found = _open(run, given)
    return None if found.logits is None else found.logits[found.rows(run.experiment.recipe.ipc)]


def _open(run: Run, given: Given) -> OpenSet:
    found = reopen(given, run.experiment.real)
    require_same(found, given, run.experiment.recipe.ipc)
    return found

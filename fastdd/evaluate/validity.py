"""What is wrong with a set before anybody trains on it: leaks, repetitions, imbalance, claims that fail.

A test image in a set, or one that is next to equal, makes every accuracy on the test images worthless. A set
image s is taken for a copy of a test image t where the root mean square of s - t is at most a quarter of the
standard deviation of t's pixels. Of 6,000 training images of CIFAR-10 none is so near to a test image; the
same image saved once more as a JPEG is at about a tenth.

The nearest test image is sought among means of patches, 8 x 8 of them, plain and mirrored, and the pixels are
compared after. Cost: n m 64 C multiplications for n images and m test images, which are decoded once.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..data import Dataset, open_loader
from ..distilled import DistilledSet
from ..distilled.fingerprint import arm_fingerprint
from ..runtime.console import counted
from .features import Extractor

BATCH = 500
"""test images that are compared at a time"""
SAMPLE = 5000
"""training images whose nearest test image says what is usual"""
COPY = 0.25
"""largest distance of a copy, as a part of the contrast of the test image"""
PATCHES = 8
"""patches on a side whose means are compared first"""
ROWS = 4096
"""rows of a tile of distances"""
SATURATED = 0.5
"""share of channel values at 0 or 255 from which an image is named"""
CARD = "README.md"
SHOWN = 3
"""examples that a finding names"""
EMBEDDED = 0.001
"""share of real training images that are nearer to a test image than the limit of embeddings"""

Kind = Literal["leak", "fault", "note"]


@dataclass(frozen=True)
class Finding:
    """One thing that a judge of a set should know.

    Attributes:
        kind: leak, test images in the set; fault, it is not what a set should be; note, worth a look.
        text: a sentence.
    """

    kind: Kind
    text: str


class Copy(NamedTuple):
    """A set image and the test image of which it is next to a copy.

    Attributes:
        image, test: their positions.
        distance: root mean square of the difference, as a part of the test image's contrast.
        mirrored: whether the set's image is the mirrored one.
    """

    image: int
    test: int
    distance: float
    mirrored: bool


def check_set(
    distilled: DistilledSet,
    train: Dataset,
    test: Dataset,
    *,
    resize: int | None = None,
    features: Extractor | None = None,
) -> list[Finding]:
    """Everything that is found wrong with a set.

    Args:
        distilled: the set.
        train, test: the real images.
        resize: shorter side to which real images are resized before the center is cut out; None: whatever
            just covers the set's size.
        features: a network in whose embeddings images are compared too; None: pixels alone are.

    Returns:
        Leaks first; empty where nothing is wrong.

    Raises:
        InputError: the set has other classes, or a real image cannot be read.
    """
    distilled.classes_of(test.classes)
    C, H, W = distilled.images.shape[1:]
    loader = open_loader(test, BATCH, (H, W), 1 if C == 1 else 3, resize=resize, backend="torchvision")
    clipped = list[Tensor]()

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        for each in loader:
            clipped.append(_clipped(each.images))
            yield each.images, each.indices

    copies = copies_of_test_images(distilled.images, batches())
    found = leaks(distilled.images, distilled.ids, test.names, copies)
    if features is not None:
        sample = range(0, len(train), max(1, len(train) // SAMPLE))
        of_test, _ = features.of_dataset(test, (H, W), resize)
        of_train, _ = features.of_dataset(train, (H, W), resize, indices=sample)
        found += embedding_finding(features(distilled.images), of_test, of_train)
    usual = float(torch.cat(clipped).float().mean())
    return found + findings_of_set(distilled, test.classes, usual)


def copies_of_test_images(images: Tensor, batches: Iterable[tuple[Tensor, Tensor]]) -> list[Copy]:
    """The images of a set that are next to copies of test images.

    Args:
        images: the set, uint8 [N, C, H, W].
        batches: test images of the same size, uint8 [B, C, H, W], and their positions [B].

    Returns:
        One for each such image, by position; of several test images the nearest.
    """
    sides = [images, images.flip(3)]
    wanted = [_patches(side) for side in sides]
    nearest = torch.full((len(images),), torch.inf)
    found: dict[int, Copy] = {}
    for shown, positions in batches:
        patches = _patches(shown)
        for mirrored, (side, own) in enumerate(zip(sides, wanted, strict=True)):
            for first in range(0, len(own), ROWS):
                rows = slice(first, first + ROWS)
                place = torch.cdist(own[rows], patches).argmin(1)
                test = shown[place].float()
                contrast = test.std(dim=(1, 2, 3)).clamp(min=1.0)  # of a plain image: one grey level
                off = (side[rows].float() - test).square().mean(dim=(1, 2, 3)).sqrt() / contrast
                for row in (off < nearest[rows]).nonzero()[:, 0].tolist():
                    nearest[first + row] = off[row]
                    if off[row] <= COPY:
                        at = int(positions[place[row]])
                        found[first + row] = Copy(first + row, at, float(off[row]), bool(mirrored))
    return [found[row] for row in sorted(found)]


def _patches(images: Tensor) -> Tensor:
    """Means of patches, float32 [N, 64 C]; of images smaller than 8 pixels the pixels."""
    H, W = images.shape[2:]
    return F.adaptive_avg_pool2d(images.float(), (min(H, PATCHES), min(W, PATCHES))).flatten(1)


def leaks(images: Tensor, ids: Sequence[str], names: Sequence[str], found: Sequence[Copy]) -> list[Finding]:
    """The finding of copies of test images; none where there are no copies.

    Args:
        images: the set.
        ids: its images' names.
        names: the test images' names.
        found: the copies.
    """
    if not found:
        return []
    some = "; ".join(
        f"{ids[each.image]} is {'mirrored ' * each.mirrored}{names[each.test]}" for each in found[:SHOWN]
    )
    return [
        Finding(
            "leak",
            f"{len(found)} of {counted(len(images), 'image')} are copies of test images, or next to them: "
            f"{some}{'; ...' if len(found) > SHOWN else ''}. Accuracies on the test images say nothing",
        )
    ]


def embedding_finding(set_rows: Tensor, test_rows: Tensor, train_rows: Tensor) -> list[Finding]:
    """Whether many images lie nearer to a test image, in a network's embeddings, than training images do.

    Args:
        set_rows, test_rows, train_rows: embeddings [N, D] of the set, the test images, and a sample of the
            training images.
    """
    limit = _nearest(train_rows, test_rows).quantile(EMBEDDED)
    share = float((_nearest(set_rows, test_rows) < limit).float().mean())
    if share <= 10 * EMBEDDED:
        return []
    text = (
        f"{share:.0%} of the images lie nearer to a test image, in the teacher's embeddings, than "
        f"{1 - EMBEDDED:.1%} of the training images do. Images that were optimized for the teacher lie near "
        "the centers of their classes, so this alone is no leak"
    )
    return [Finding("note", text)]


def _nearest(rows: Tensor, others: Tensor) -> Tensor:
    """1 - cosine of each row [N] and the nearest of the others."""
    others = F.normalize(others.float(), dim=1)
    return torch.cat([1 - (F.normalize(t.float(), dim=1) @ others.T).amax(1) for t in rows.split(ROWS)])


def findings_of_set(distilled: DistilledSet, classes: Sequence[str], usual: float = 0.0) -> list[Finding]:
    """What a set shows without the real images: repetitions, imbalance, images without content, labels.

    Args:
        distilled: the set.
        classes: class names of the real set.
        usual: share of the test images most of whose values are at the ends of their range.
    """
    images, ids = distilled.images, distilled.ids
    return [
        *_balance(distilled, classes),
        *_repeated(images, ids),
        *_empty(images, ids, usual),
        *_soft_labels(distilled),
        *_claims(distilled),
    ]


def _balance(distilled: DistilledSet, classes: Sequence[str]) -> list[Finding]:
    counts = torch.bincount(distilled.labels, minlength=len(distilled.classes)).tolist()
    findings = []
    if len(distilled.classes) < len(classes):
        lacking = len(classes) - len(distilled.classes)
        findings.append(Finding("fault", f"{counted(lacking, 'class')} of {len(classes)} have no images"))
    if len(set(counts)) > 1:
        few, many = counts.index(min(counts)), counts.index(max(counts))
        findings.append(
            Finding(
                "fault",
                f"classes have unlike numbers of images: {distilled.classes[few]!r} {min(counts)}, "
                f"{distilled.classes[many]!r} {max(counts)}",
            )
        )
    return findings


def _repeated(images: Tensor, ids: Sequence[str]) -> list[Finding]:
    first: dict[bytes, int] = {}
    pairs = []
    for place, image in enumerate(images):
        other = first.setdefault(image.numpy().tobytes(), place)
        if other != place:
            pairs.append((other, place))
    if not pairs:
        return []
    some = "; ".join(f"{ids[a]} and {ids[b]}" for a, b in pairs[:SHOWN])
    more = "; ..." if len(pairs) > SHOWN else ""
    return [Finding("fault", f"images that are the same: {some}{more}")]


def _clipped(images: Tensor) -> Tensor:
    """Which images [N] have most of their values at the ends of their range."""
    rows = images.flatten(1)
    return ((rows == 0) | (rows == 255)).float().mean(1) > SATURATED


def _empty(images: Tensor, ids: Sequence[str], usual: float) -> list[Finding]:
    """Images of one color, and images that were clipped, where more are than is usual."""
    rows = images.flatten(1)
    plain = rows.amax(1) == rows.amin(1)
    clipped = _clipped(images) & ~plain
    findings = []
    if plain.any():
        places = plain.nonzero()[:, 0].tolist()
        findings.append(
            Finding("fault", f"{counted(len(places), 'image')} of one color: {_some(places, ids)}")
        )
    if float(clipped.float().mean()) > 2 * usual:
        places = clipped.nonzero()[:, 0].tolist()
        findings.append(
            Finding(
                "note",
                f"{counted(len(places), 'image')} with most of their values at 0 or 255, "
                f"as {usual:.1%} of the test images have: {_some(places, ids)}",
            )
        )
    return findings


def _some(places: Sequence[int], ids: Sequence[str]) -> str:
    return ", ".join(ids[place] for place in places[:SHOWN]) + (", ..." if len(places) > SHOWN else "")


def _soft_labels(distilled: DistilledSet) -> list[Finding]:
    """Soft labels that all images of the set share, or that mean other classes than the folders."""
    logits = distilled.logits
    if logits is None:
        return []
    findings = []
    different = len(torch.unique(logits.float(), dim=0))
    if different < len(logits):
        findings.append(
            Finding("note", f"{counted(len(logits), 'image')} have {counted(different, 'soft label')} in all")
        )
    if distilled.source is None and logits.shape[1] == len(distilled.classes):
        agrees = float((logits.argmax(1) == distilled.labels).float().mean())
        if agrees < 0.5:
            findings.append(
                Finding(
                    "fault",
                    f"soft labels mean the class of their folder for {agrees:.0%} of the images alone; are "
                    "they of another order of classes?",
                )
            )
    return findings


def _claims(distilled: DistilledSet) -> list[Finding]:
    """What the results of a run, or the card of an export, say against what is found."""
    source = distilled.source
    if source is None:
        return _claims_of_card(distilled)
    if source.metrics is None or source.arm not in source.metrics.arms:
        return [Finding("note", "its run has no results yet")]
    result = source.metrics.arms[source.arm]
    if result.images is None:
        return []
    classes = [str(name) for name in distilled.classes]
    now = arm_fingerprint(source.folder, source.arm, classes, result.seen, method=source.method)
    if now == result.images:
        return []
    return [Finding("fault", "its run's results are of other images; `fastdd run` measures them again")]


def _claims_of_card(distilled: DistilledSet) -> list[Finding]:
    """The rows of an export's card that say other numbers than those of the files."""
    card = next(
        (folder / CARD for folder in (distilled.path, distilled.path.parent) if (folder / CARD).is_file()),
        None,
    )
    text = "" if card is None else card.read_text(errors="replace")
    claims = dict(re.findall(r"^\| (images|pixels) \| (.*?) \|$", text, re.M))
    H, W = distilled.images.shape[2:]
    found = {"images": f"{len(distilled):,} of ", "pixels": f"{H} x {W}, "}
    return [
        Finding("fault", f"its card says {name}: {value}, but there are {found[name].rstrip(' of,')}")
        for name, value in claims.items()
        if not value.startswith(found[name])
    ]

"""What is wrong with a set before anybody trains on it: leaks, repetitions, imbalance, claims that fail.

A set is decoded once, in parts, and again where an image may be a copy of a test image (leaks.py). Crops and
mosaics of test images are sought by their pieces (pieces.py), changed ones in a network's embeddings.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..data import Dataset
from ..distilled import ListedSet
from ..distilled.fingerprint import arm_fingerprint
from ..run_folder.results import Finding
from ..runtime.console import counted
from .features import Extractor
from .leaks import DECODED, ROWS, SHOWN, Searched, copies_of_test_images, leak_text
from .pieces import PieceSearch, SetPieces, pixel_digests

NEARER = 0.7
"""part of the distance from the nearest training image below which a test image is far nearer"""
SUSPICIOUS = 0.1
"""share of a set's images from which this is said"""
FEWEST = 3
"""images from which it is said"""
TILE = 512
"""rows of a set whose distances are taken together"""
SATURATED = 0.5
"""share of channel values at 0 or 255 from which an image is named"""
CARD = "README.md"


@dataclass(frozen=True)
class ScannedSet:
    """What one pass over the images of a set tells.

    Attributes:
        listed: the set.
        searched: the set, in which copies of test images can be looked for.
        pieces: pieces of some of its images, which can be sought in test images.
        digests: sha256 of the pixels of each image.
        plain: bool [N], which images have one color.
        clipped: bool [N], which others have most of their values at the ends of their range.
    """

    listed: ListedSet
    searched: Searched
    pieces: SetPieces
    digests: list[bytes]
    plain: Tensor
    clipped: Tensor

    @staticmethod
    def of(listed: ListedSet) -> ScannedSet:
        """Look at every image of a set once.

        Raises:
            InputError: an image cannot be read.
        """
        digests, plain, clipped = list[bytes](), list[Tensor](), list[Tensor]()

        def look(images: Tensor) -> Tensor:
            digests.extend(pixel_digests(images))
            rows = images.flatten(1)
            plain.append(rows.amax(1) == rows.amin(1))
            clipped.append(_clipped(images) & ~plain[-1])
            return images

        searched = Searched.of(map(look, listed.batches(DECODED)), listed.rows)
        pieces = SetPieces(digests, listed.rows, listed.name_of)
        return ScannedSet(listed, searched, pieces, digests, torch.cat(plain), torch.cat(clipped))


def check_set(
    listed: ListedSet,
    train: Dataset,
    test: Dataset,
    *,
    resize: int | None = None,
    features: Extractor | None = None,
) -> list[Finding]:
    """Everything that is found wrong with a set.

    Args:
        listed: the set.
        train, test: the real images.
        resize: shorter side to which real images are resized before the center is cut out; None: whatever
            just covers the set's size.
        features: a network in whose embeddings images are compared too; None: pixels alone are.

    Returns:
        Leaks first; empty where nothing is wrong.

    Raises:
        InputError: the set has other classes, or a real image cannot be read.
    """
    listed.classes_of(test.classes)
    device = torch.device("cpu") if features is None else features.device
    found = check_images({"set": listed}, [test], train, resize=resize, device=device)["set"]
    if features is not None:
        size, sample = listed.shape[1:], sample_rows(len(train), len(test))
        of_test, _ = features.of_dataset(test, size, resize)
        of_train, _ = features.of_dataset(train, size, resize, indices=sample)
        found += near_finding(features.of_set(listed), of_test, of_train)
    return found + claim_findings(listed, test.classes)


def check_images(
    sets: Mapping[str, ListedSet],
    tests: Sequence[Dataset],
    train: Dataset,
    *,
    resize: int | None = None,
    device: torch.device,
    saw: Callable[[Tensor], object] | None = None,
) -> dict[str, list[Finding]]:
    """What the images of sets of one size show: test images, repetitions, images without content.

    Args:
        sets: the sets by name.
        tests: splits whose images no set should hold; each is decoded once for all sets.
        train: the training images, of which as many are decoded.
        resize: as for ``check_set``.
        device: where pieces of images are compared.
        saw: is called with each batch of images of ``tests``, uint8 [B, C, H, W].

    Returns:
        The findings of each set, leaks first.

    Raises:
        InputError: an image cannot be read.
    """
    scanned = {name: ScannedSet.of(listed) for name, listed in sets.items()}
    shape, clipped = next(iter(sets.values())).shape, list[Tensor]()
    found: dict[str, list[Finding]] = {name: [] for name in sets}
    copied: dict[str, set[int]] = {name: set() for name in sets}
    pieces = {name: each.pieces for name, each in scanned.items()}
    search = PieceSearch(pieces, train, tests, shape, resize=resize, device=device)

    def look(images: Tensor) -> None:
        search.compare(images)
        clipped.append(_clipped(images))
        if saw is not None:
            saw(images)

    for test in tests:
        searched = {name: each.searched.anew() for name, each in scanned.items()}
        copies = copies_of_test_images(searched, test, shape, resize=resize, saw=look)
        for name, some in copies.items():
            if some:
                text = leak_text(some, sets[name].name_of, len(sets[name]), test)
                found[name].append(Finding(kind="leak", text=text))
                copied[name] |= {each.image for each in some}
    for name, parts in search.findings(search.far_nearer(), copied).items():
        found[name] += parts
    usual = float(torch.cat(clipped).float().mean()) if clipped else 0.0
    return {name: found[name] + image_findings(each, usual) for name, each in scanned.items()}


def near_finding(set_rows: Tensor, test_rows: Tensor, train_rows: Tensor) -> list[Finding]:
    """Whether many images lie far nearer to a test image, in a network's embeddings, than to any of as many
    training images.

    Test images that were shifted or covered with noise lie so (63 of 100, shifted by four pixels, of CIFAR-10
    with a ResNet-20); of random real images, and of sets of SRe2L++, FADRM and CIM, at most one of 100.

    Args:
        set_rows, test_rows, train_rows: embeddings [N, D] of the set, of the test images, and of a sample of
            about as many training images.
    """
    near = 0
    for rows in set_rows.split(TILE):
        to_test, to_train = (_distances(rows, others) for others in (test_rows, train_rows))
        near += int((to_test < NEARER * to_train).sum())
    if near < FEWEST or near < SUSPICIOUS * len(set_rows):
        return []
    text = (
        f"{near} of {counted(len(set_rows), 'image')} are far nearer to a test image, in the teacher's "
        "embeddings, than to any of as many training images: they may be changed test images"
    )
    return [Finding(kind="fault", text=text)]


def _distances(rows: Tensor, others: Tensor) -> Tensor:
    """Distance of each row [N] from the nearest of the others."""
    return torch.cat(
        [torch.cdist(rows.float(), part.float()).amin(1, keepdim=True) for part in others.split(ROWS)], dim=1
    ).amin(1)


def sample_rows(count: int, wanted: int) -> range:
    """Evenly spaced positions among ``count``, about as many as are wanted."""
    return range(0, count, max(1, count // max(1, wanted)))


def image_findings(scanned: ScannedSet, usual: float = 0.0) -> list[Finding]:
    """What the images of a set show without the real ones: repetitions, and images without content.

    Args:
        scanned: the set.
        usual: share of the test images most of whose values are at the ends of their range.
    """
    return [*_repeated(scanned), *_empty(scanned, usual)]


def claim_findings(listed: ListedSet, classes: Sequence[str]) -> list[Finding]:
    """What is wrong with a set beside its images: imbalance, soft labels, and claims that do not hold.

    Args:
        listed: the set, as its makers gave it.
        classes: class names of the real set.
    """
    return [*_balance(listed, classes), *_soft_labels(listed), *_claims(listed)]


def _balance(listed: ListedSet, classes: Sequence[str]) -> list[Finding]:
    counts = torch.bincount(listed.labels, minlength=len(listed.classes)).tolist()
    findings = []
    if len(listed.classes) < len(classes):
        lacking = len(classes) - len(listed.classes)
        findings.append(
            Finding(kind="fault", text=f"{counted(lacking, 'class')} of {len(classes)} have no images")
        )
    if len(set(counts)) > 1:
        few, many = counts.index(min(counts)), counts.index(max(counts))
        findings.append(
            Finding(
                kind="fault",
                text=f"classes have unlike numbers of images: {listed.classes[few]!r} {min(counts)}, "
                f"{listed.classes[many]!r} {max(counts)}",
            )
        )
    return findings


def _repeated(scanned: ScannedSet) -> list[Finding]:
    first: dict[bytes, int] = {}
    pairs = []
    for place, digest in enumerate(scanned.digests):
        other = first.setdefault(digest, place)
        if other != place:
            pairs.append((other, place))
    if not pairs:
        return []
    name_of = scanned.listed.name_of
    some = "; ".join(f"{name_of(a)} and {name_of(b)}" for a, b in pairs[:SHOWN])
    more = "; and more" if len(pairs) > SHOWN else ""
    text = f"{len(pairs)} of {counted(len(scanned.listed), 'image')} repeat others of the set: {some}{more}"
    return [Finding(kind="fault", text=text)]


def _clipped(images: Tensor) -> Tensor:
    """Which images [N] have most of their values at the ends of their range."""
    rows = images.flatten(1)
    return ((rows == 0) | (rows == 255)).float().mean(1) > SATURATED


def _empty(scanned: ScannedSet, usual: float) -> list[Finding]:
    """Images of one color, and images that were clipped, where more are than is usual."""
    findings = []
    if scanned.plain.any():
        text = f"{_counted(scanned.plain)} of one color: {_some(scanned, scanned.plain)}"
        findings.append(Finding(kind="fault", text=text))
    if float(scanned.clipped.float().mean()) > 2 * usual:
        text = (
            f"{_counted(scanned.clipped)} with most of their values at 0 or 255, as {usual:.1%} of the test "
            f"images have: {_some(scanned, scanned.clipped)}"
        )
        findings.append(Finding(kind="note", text=text))
    return findings


def _counted(chosen: Tensor) -> str:
    return counted(int(chosen.sum()), "image")


def _some(scanned: ScannedSet, chosen: Tensor) -> str:
    """The names of the first of some images."""
    places: list[int] = chosen.nonzero()[:, 0].tolist()
    return ", ".join(map(scanned.listed.name_of, places[:SHOWN])) + (
        " and more" if len(places) > SHOWN else ""
    )


def _soft_labels(listed: ListedSet) -> list[Finding]:
    """Soft labels that all images of the set share, or that mean other classes than the folders."""
    logits = listed.logits
    if logits is None:
        return []
    findings = []
    different = len(torch.unique(logits.float(), dim=0))
    if different < len(logits):
        findings.append(
            Finding(
                kind="note",
                text=f"{counted(len(logits), 'image')} have {counted(different, 'soft label')} in all",
            )
        )
    if listed.source is None and logits.shape[1] == len(listed.classes):
        agrees = float((logits.argmax(1) == listed.labels).float().mean())
        if agrees < 0.5:
            text = (
                f"soft labels mean the class of their folder for {agrees:.0%} of the images alone; are they "
                "of another order of classes?"
            )
            findings.append(Finding(kind="fault", text=text))
    return findings


def _claims(listed: ListedSet) -> list[Finding]:
    """What the results of a run, or the card of an export, say against what is found."""
    source = listed.source
    if source is None:
        return _claims_of_card(listed)
    if source.metrics is None or source.arm not in source.metrics.arms:
        return [Finding(kind="note", text="its run has no results yet")]
    result = source.metrics.arms[source.arm]
    if result.images is None:
        return []
    classes = [str(name) for name in listed.classes]
    now = arm_fingerprint(source.folder, source.arm, classes, result.seen, method=source.method)
    if now == result.images:
        return []
    return [
        Finding(kind="fault", text="its run's results are of other images; `fastdd run` measures them again")
    ]


def _claims_of_card(listed: ListedSet) -> list[Finding]:
    """The rows of an export's card that say other numbers than those of the files."""
    card = next(
        (folder / CARD for folder in (listed.path, listed.path.parent) if (folder / CARD).is_file()), None
    )
    text = "" if card is None else card.read_text(errors="replace")
    claims = dict(re.findall(r"^\| (images|pixels) \| (.*?) \|$", text, re.M))
    _, H, W = listed.shape
    found = {"images": f"{len(listed):,} of ", "pixels": f"{H} x {W}, "}
    return [
        Finding(
            kind="fault", text=f"its card says {name}: {value}, but there are {found[name].rstrip(' of,')}"
        )
        for name, value in claims.items()
        if not value.startswith(found[name])
    ]

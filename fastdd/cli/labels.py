"""``fastdd labels show``, ``export-fkd`` and ``import-fkd``: stored soft labels."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from ..runtime.console import counted
from .console import rows_table, show_table
from .options import Commands

Rows = list[tuple[str, str]]
"""what is printed: (name, value)"""


TEXT = (
    "Show the soft labels that a run has stored, or change between fastdd's files and those of the released "
    "code of SRe2L (FKD)."
)


def add(commands: Commands) -> None:
    parser = commands.add_parser("labels", help="show, export or import stored soft labels", description=TEXT)
    labels = parser.add_subparsers(dest="labels_command", required=True, metavar="COMMAND")
    show = labels.add_parser(
        "show",
        help="print which images labels belong to, how they were made and their size",
        description="Print which images the labels belong to, how they were made and their size.",
    )
    show.add_argument("labels", metavar="LABELS", help="labels/ARM or labels/ARM.safetensors of a run")
    show.set_defaults(run=_show)
    out = labels.add_parser(
        "export-fkd",
        help="write labels in the layout of the released FKD code",
        description="Write labels in the layout that the released code of SRe2L reads (FKD).",
    )
    out.add_argument("labels", metavar="LABELS", help="the folder labels/ARM of a run with labels.order=fkd")
    out.add_argument("--out", metavar="DIR", required=True, help="the new folder")
    out.add_argument(
        "--indices", action="store_true", help="also write the positions of the samples, as G-VBSM and EDC do"
    )
    out.set_defaults(run=_export)
    into = labels.add_parser(
        "import-fkd",
        help="read labels of the released FKD code; nothing in them is executed",
        description="Read labels that the released code of SRe2L wrote (FKD). Nothing in them is executed.",
    )
    into.add_argument("fkd", metavar="FKD", help="the folder that holds epoch_0")
    into.add_argument("set", metavar="SET", help="the distilled images that were labelled")
    into.add_argument("--arm", metavar="NAME", help="the arm, where SET is a run with several")
    into.add_argument("--out", metavar="DIR", required=True, help="the new folder")
    into.add_argument(
        "--classes", type=int, metavar="N", help="classes of a label (default: as many as SET has folders)"
    )
    into.add_argument(
        "--form",
        default="fp16",
        choices=("fp16", "bf16", "topk", "int8", "int4", "lowrank", "pq"),
        help="how logits are stored (default: fp16)",
    )
    into.add_argument(
        "--k", type=int, default=10, metavar="K", help="classes that --form topk keeps (default: 10)"
    )
    into.add_argument(
        "--rest",
        default="spread",
        choices=("spread", "none"),
        help="probability of the classes that --form topk leaves out (default: spread)",
    )
    into.add_argument(
        "--rank", type=int, default=2, metavar="R", help="directions an image of --form lowrank (default: 2)"
    )
    into.add_argument(
        "--codes", type=int, default=8, metavar="M", help="bytes a label of --form pq (default: 8)"
    )
    into.add_argument(
        "--temperature",
        type=float,
        default=20.0,
        metavar="T",
        help="temperature of the students, for --form topk (default: 20)",
    )
    into.add_argument(
        "--permutations",
        type=int,
        default=2,
        choices=(1, 2),
        help="shuffles per epoch of the loader that made the labels; 1: a torch before 2022 (default: 2)",
    )
    into.set_defaults(run=_import)


def _show(arguments: argparse.Namespace) -> None:
    path = Path(arguments.labels)
    show_table(rows_table(_of_images(path) if path.suffix == ".safetensors" else _of_views(path)))


def _of_images(path: Path) -> Rows:
    """What is to be said of a file with one label an image."""
    import torch.nn.functional as F

    from ..labels import read_labels

    found = read_labels(path)
    count, classes = found.logits.shape
    of = "unknown, of an earlier version" if found.images is None else f"fingerprint {found.images[:12]}"
    rows = [
        ("labels", f"{count}, one of each image as it is, {path.stat().st_size:,} bytes"),
        ("classes", str(classes)),
        ("images", of),
        ("logits", str(found.logits.dtype).removeprefix("torch.")),
    ]
    bad = int((~found.logits.isfinite().all(1)).sum())
    if bad:
        return [*rows, ("not finite", f"{counted(bad, 'label')}; students refuse such")]
    log = F.log_softmax(found.logits.double(), 1)
    confidence, entropy = log.exp().amax(1).mean(), -(log.exp() * log).sum(1).mean()
    return [
        *rows,
        ("mean confidence", f"{confidence:.4f}, the largest probability at T = 1"),
        ("mean entropy", f"{entropy:.4f} nats at T = 1, of at most {math.log(classes):.4f}"),
    ]


def _of_views(path: Path) -> Rows:
    """What is to be said of a folder with labels of views."""
    from ..labels import StoredLabels
    from ..labels.encoding import CENTERS

    labels = StoredLabels.open(path)
    manifest, how = labels.manifest, labels.manifest.augmentation
    count, size = manifest.pool.labels, labels.bytes
    fkd = manifest.epochs * manifest.samples * (2 * manifest.classes + 25)
    details = {
        "topk": f", k {manifest.k} "
        + ("without a rest" if manifest.rest == "none" else f"at T {manifest.temperature:g}"),
        "lowrank": f" {manifest.rank}",
        "pq": f", {counted(manifest.codes, 'code')} of {counted(CENTERS, 'center')}",
    }
    form = manifest.form + details.get(manifest.form, "")
    cut = (
        f"pad {how.pad} px"
        if how.scale is None
        else f"windows of {how.scale[0]:g} to {how.scale[1]:g} of the area"
    )
    mixing = "none" if how.mix == "none" else f"{how.mix}({how.mix_alpha:g}), one ratio a {how.mix_per}"
    return [
        (
            "images",
            f"{manifest.samples} of {how.size[0]} x {how.size[1]}, fingerprint {manifest.images[:12]}",
        ),
        ("classes", str(manifest.classes)),
        ("teachers", ", ".join(teacher[:12] for teacher in manifest.teachers) or "unknown"),
        (
            "teacher mode",
            f"{manifest.mode}, batches of {how.batch} in {counted(manifest.parts, 'part')}, "
            f"{manifest.average}",
        ),
        ("views", "stored, as imported" if manifest.source else f"{cut}, flip {how.flip:g}"),
        ("mixing", how.mix if manifest.source else mixing),
        (
            "epochs",
            f"{manifest.epochs}, {100 * manifest.keep:g} % of the batches kept ({manifest.choice}), order "
            f"{how.order}",
        ),
        ("labels", f"{count} in {form}, {size / 1e6:.2f} MB, {size / count:.1f} bytes each"),
        ("against FKD", f"{fkd / 1e6:.2f} MB for all epochs, {fkd / size:.1f} times as much"),
    ]


def _export(arguments: argparse.Namespace) -> None:
    from ..labels import StoredLabels, export_fkd

    files = export_fkd(StoredLabels.open(arguments.labels), Path(arguments.out), arguments.indices)
    print(f"{arguments.out}: {counted(files, 'file')}")


def _import(arguments: argparse.Namespace) -> None:
    from ..distilled import open_set
    from ..labels import LabelForm, import_fkd
    from ..runtime.lock import at_work

    distilled = open_set(arguments.set, arguments.arm)
    with at_work(Path(arguments.out), "labels import-fkd"):
        labels = import_fkd(
            Path(arguments.fkd),
            Path(arguments.out),
            distilled.images,
            arguments.classes or len(distilled.classes),
            truth=distilled.labels,
            permutations=arguments.permutations,
            form=LabelForm(
                form=arguments.form,
                k=arguments.k,
                rest=arguments.rest,
                temperature=arguments.temperature,
                rank=arguments.rank,
                codes=arguments.codes,
            ),
        )
    print(f"{arguments.out}: {counted(labels.manifest.pool.labels, 'label')}, {labels.bytes / 1e6:.2f} MB")

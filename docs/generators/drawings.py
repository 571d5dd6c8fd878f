"""The drawings of the concepts, as SVG made from a few lines of text each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from result_tables import mean_percent

INK, LINE, PAPER = "#1f2937", "#64748b", "#ffffff"
STROKE = f'stroke="{LINE}" stroke-width="1.6"'
REAL, NETWORK, SYNTHETIC, STUDENT = "#dbeafe", "#e5e7eb", "#fde68a", "#dcfce7"
"""fill of real images, of networks and files, of synthetic images, and of students"""


@dataclass(frozen=True)
class Box:
    """A box with lines of text: its left and top edge, width and height in pixels."""

    x: float
    y: float
    width: float
    height: float
    text: str
    fill: str = NETWORK

    def svg(self) -> str:
        """The box; the first line of its text is bold."""
        lines = self.text.split("\n")
        top = self.y + self.height / 2 - 9 * (len(lines) - 1)
        middle = self.x + self.width / 2
        styles = ["b", *[""] * (len(lines) - 1)]
        rows = [
            f'<text x="{middle}" y="{top + 18 * i}" class="{styles[i]}">{escape(line)}</text>'
            for i, line in enumerate(lines)
        ]
        return (
            f'<rect x="{self.x}" y="{self.y}" width="{self.width}" height="{self.height}" rx="7" '
            f'fill="{self.fill}" stroke="{LINE}"/>' + "".join(rows)
        )


def arrow(x1: float, y1: float, x2: float, y2: float, label: str = "", dashed: bool = False) -> str:
    """A line with a head at its end, and a label above its middle."""
    style = ' stroke-dasharray="5 4"' if dashed else ""
    text = (
        f'<text x="{(x1 + x2) / 2}" y="{(y1 + y2) / 2 - 9}" class="s">{escape(label)}</text>' if label else ""
    )
    return f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" {STROKE}{style} marker-end="url(#h)"/>{text}'


def note(x: float, y: float, text: str, anchor: str = "middle") -> str:
    """A line of small text."""
    return f'<text x="{x}" y="{y}" class="s" style="text-anchor:{anchor}">{escape(text)}</text>'


def drawing(width: int, height: int, title: str, parts: Sequence[str | Box]) -> str:
    """The file: parts over a plain background, with a title for those who cannot see it."""
    inner = "".join(part.svg() if isinstance(part, Box) else part for part in parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">'
        f"<title>{escape(title)}</title>"
        "<style>text{font:14px system-ui,sans-serif;text-anchor:middle;dominant-baseline:middle;"
        f"fill:{INK}}}.b{{font-weight:600}}.s{{font-size:12.5px;fill:#475569}}</style>"
        '<defs><marker id="h" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
        'orient="auto">'
        f'<path d="M0 0L8 4L0 8z" fill="{LINE}"/></marker></defs>'
        f'<rect width="{width}" height="{height}" fill="{PAPER}" rx="10"/>{inner}</svg>\n'
    )


def stages() -> str:
    """The stages of a run, from real images to the page."""
    names = [
        ("real images", "many", REAL),
        ("squeeze", "a teacher", NETWORK),
        ("bank", "statistics", NETWORK),
        ("recover", "tiny set", SYNTHETIC),
        ("label", "soft labels", NETWORK),
        ("evaluate", "students", STUDENT),
        ("report", "the page", NETWORK),
    ]
    parts: list[str | Box] = []
    for i, (name, made, fill) in enumerate(names):
        parts.append(Box(12 + 126 * i, 30, 104, 62, f"{name}\n{made}", fill))
        if i:
            parts.append(arrow(12 + 126 * i - 22, 61, 12 + 126 * i - 2, 61))
    parts += [
        Box(390, 140, 104, 52, "control\nrandom real", REAL),
        f'<path d="M64 92 V166 H388" fill="none" {STROKE} marker-end="url(#h)"/>',
        f'<line x1="494" y1="166" x2="694" y2="166" {STROKE}/>',
        arrow(694, 166, 694, 96),
        note(226, 152, "as many real images, nothing optimized"),
        note(600, 152, "the same protocol"),
    ]
    return drawing(
        890, 210, "Stages of a run: squeeze, bank, recover, label, evaluate, report, and the control", parts
    )


def squeeze_recover_relabel() -> str:
    """What happens in squeeze, recover and relabel."""
    parts: list[str | Box] = [
        note(150, 22, "1  squeeze"),
        Box(20, 40, 110, 56, "real images", REAL),
        arrow(130, 68, 168, 68),
        Box(170, 40, 110, 56, "teacher\nis trained"),
        note(450, 22, "2  recover"),
        Box(320, 40, 116, 56, "synthetic\nimages", SYNTHETIC),
        arrow(436, 62, 474, 62),
        Box(476, 40, 110, 56, "teacher\nis frozen"),
        arrow(531, 96, 531, 128),
        Box(456, 130, 150, 56, "statistics\ncompared with real"),
        arrow(456, 158, 378, 100, ""),
        note(392, 142, "gradient"),
        note(392, 158, "to the pixels"),
        note(760, 22, "3  relabel"),
        Box(640, 40, 104, 56, "synthetic\nimages", SYNTHETIC),
        arrow(744, 68, 776, 68),
        Box(778, 40, 92, 56, "teacher"),
        arrow(824, 96, 824, 128),
        Box(740, 130, 140, 56, "soft labels\n0.7 cat, 0.2 dog"),
        Box(640, 130, 84, 56, "student\nlearns", STUDENT),
        arrow(740, 158, 726, 158),
    ]
    return drawing(
        890, 204, "Squeeze trains a teacher, recover optimizes images, relabel makes soft labels", parts
    )


def units() -> str:
    """Images by class and slot, and how batches and units cut them."""
    parts: list[str | Box] = []
    classes = ("cat", "dog", "ship", "truck")
    for r, name in enumerate(classes):
        parts.append(note(64, 66 + 44 * r, name, "end"))
        for c in range(6):
            fill = SYNTHETIC if c < 2 else REAL if c < 4 else STUDENT
            parts.append(Box(76 + 50 * c, 46 + 44 * r, 44, 38, f"{c}", fill))
    parts += [
        note(224, 26, "slot: the place of an image within its class"),
        note(126, 238, "unit 0"),
        note(226, 238, "unit 1"),
        note(326, 238, "unit 2"),
    ]
    lines = [
        "An arm is one set of images, such as deda.",
        "A class and a slot name one image; its random numbers",
        "depend on them alone.",
        "A unit is what is optimized and saved together,",
        "resumed after a kill, and shared by processes.",
        "How images are cut into units changes nothing",
        "beyond rounding.",
    ]
    parts += [note(410, 60 + 26 * i, line, "start") for i, line in enumerate(lines)]
    return drawing(800, 256, "Images of a set by class and slot, cut into units", parts)


def regimes() -> str:
    """Where the labels come from that students learn."""
    parts: list[str | Box] = []
    rows = [
        ("hard", "the class of the image", "cat", "0 bytes"),
        ("fixed", "stored before, an image or a view", "0.7 cat, 0.2 dog, ...", "labels on disk"),
        ("online", "the teacher labels every view", "0.6 cat, 0.3 dog, ...", "the teacher on disk"),
    ]
    for i, (name, said, label, cost) in enumerate(rows):
        y = 20 + 66 * i
        parts += [
            Box(20, y, 110, 50, name),
            note(300, y + 26, said),
            arrow(430, y + 25, 474, y + 25),
            Box(476, y, 170, 50, label),
            arrow(646, y + 25, 690, y + 25),
            Box(692, y, 96, 50, "student", STUDENT),
            note(800, y + 26, cost, "start"),
        ]
    return drawing(940, 220, "Three regimes of labels: hard, fixed and online", parts)


def control() -> str:
    """Why the control stands beside every set, with the accuracies of the house method."""
    best, random = (mean_percent("cifar10_best_ipc10", arm) for arm in ("best", "random"))
    parts: list[str | Box] = [
        Box(20, 24, 170, 60, "distilled images\n10 a class", SYNTHETIC),
        arrow(190, 54, 260, 54),
        Box(20, 124, 170, 60, "random real images\n10 a class", REAL),
        arrow(190, 154, 260, 154),
        Box(262, 24, 226, 160, "one protocol\nnetwork, steps, augmentation,\nlabels, seeds: all the same"),
        arrow(488, 54, 558, 54),
        arrow(488, 154, 558, 154),
        Box(560, 24, 120, 60, f"{best:.1f} %", STUDENT),
        Box(560, 124, 120, 60, f"{random:.1f} %", STUDENT),
        arrow(680, 54, 750, 96),
        arrow(680, 154, 750, 112),
        Box(752, 74, 130, 60, f"{best - random:+z.1f} points\nwhat it is worth"),
    ]
    return drawing(900, 208, "A distilled set and as many random real images under one protocol", parts)


def formation() -> str:
    """Several images in the pixels of one."""
    parts: list[str | Box] = [
        *(Box(20, 30 + 50 * i, 84, 44, f"image {i + 1}", REAL) for i in range(4)),
        *(arrow(104, 52 + 50 * i, 218, 110 + 13 * i) for i in range(4)),
        Box(220, 90, 150, 80, "one stored image\n32 x 32 pixels", SYNTHETIC),
        note(162, 40, "low frequencies"),
        note(162, 56, "of each"),
        arrow(370, 130, 468, 130, "unpacked"),
        Box(470, 90, 160, 80, "four images\nthat students see", STUDENT),
        note(690, 116, "compare it in pixels", "start"),
        note(690, 136, "and bytes, not in images", "start"),
    ]
    return drawing(890, 250, "A formation: four images in the pixels of one", parts)


def matching() -> str:
    """The matching family."""
    parts: list[str | Box] = [
        Box(20, 24, 130, 56, "real images", REAL),
        Box(20, 124, 130, 56, "synthetic\nimages", SYNTHETIC),
        arrow(150, 52, 238, 90),
        arrow(150, 152, 238, 114),
        Box(240, 72, 160, 60, "a network\nrandom, or in training"),
        arrow(400, 90, 488, 56),
        arrow(400, 114, 488, 148),
        Box(490, 24, 190, 56, "features, gradients\nor weights (real)"),
        Box(490, 124, 190, 56, "features, gradients\nor weights (synthetic)"),
        arrow(680, 52, 738, 92),
        arrow(680, 152, 738, 112),
        Box(740, 72, 120, 60, "distance"),
        f'<path d="M800 132 V200 H85 V184" fill="none" {STROKE} marker-end="url(#h)"/>',
        note(440, 187, "gradient to the pixels"),
    ]
    return drawing(
        890, 216, "The matching family compares synthetic and real images through networks of its own", parts
    )


DRAWINGS = {
    each.__name__.replace("_", "-"): each
    for each in (stages, squeeze_recover_relabel, units, regimes, control, formation, matching)
}
"""file name without .svg -> what draws it"""

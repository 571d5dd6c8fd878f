"""What a run says of each of its sets, in a sentence: whether it is worth more than random real images, with
which students, and how certain that is."""

from __future__ import annotations

from collections.abc import Mapping

from ..config import CONTROL
from ..run_folder import ArmResult, Metrics
from ..run_folder.comparison import Difference, difference_text
from ..run_folder.results import ProtocolResult, StudentAccuracies
from ..run_folder.shipped import bytes_text
from ..runtime.console import counted


def verdicts(metrics: Metrics) -> list[str]:
    """A sentence for each set beside the control, then one on what the numbers mean."""
    kinds = {"": metrics.protocol, **metrics.students}
    found = [_verdict(metrics, arm, kinds) for arm, result in metrics.arms.items() if arm != CONTROL]
    seeds = max(each.seeds for each in kinds.values())
    if seeds == 1:
        return [*found, "One seed says nothing of how certain a difference is; give several with --seeds."]
    return [
        *found,
        "± is half the 95 % interval of the difference from random real images under the same protocol, seed "
        f"by seed over {counted(seeds, 'seed')}; one in twenty such intervals misses by chance. Bytes are "
        "those that students read: images, stored labels, and a teacher where it labels online.",
    ]


def _verdict(metrics: Metrics, arm: str, kinds: Mapping[str, ProtocolResult]) -> str:
    result = metrics.arms[arm]
    students: dict[str, ArmResult | StudentAccuracies] = {"": result, **result.students}
    groups: dict[str, list[str]] = {}
    for name, each in students.items():
        text, found = _kind(name, kinds), each.above_control
        if found is not None:
            text = f"{text} {difference_text(found).removeprefix('≈ ')} points"
        if each.shipped is not None:
            text = f"{text} at {bytes_text(each.shipped.total)}"
        groups.setdefault(_judged(found), []).append(text)
    parts = [f"{judged} with {', '.join(groups[judged])}" for judged in JUDGED if judged in groups]
    size = f"{counted(metrics.ipc, 'image')} a class"
    if result.seen != metrics.ipc:
        size = f"{size} stored and {result.seen} seen"
    return f"{result.title} ({size}) beside as many random real images: {'; '.join(parts)}."


JUDGED = (
    "worth more",
    "not distinguishable",
    "worth less",
    "a difference of one seed",
    "unknown, since students diverged,",
)
"""what is said of a set with students of a kind, in the order in which it is said"""


def _judged(found: Difference | None) -> str:
    more, same, less, one_seed, unknown = JUDGED
    if found is None:
        return unknown
    if found.interval is None:
        return one_seed
    if not found.distinguishable:
        return same
    return more if found.mean > 0 else less


def _kind(name: str, kinds: Mapping[str, ProtocolResult]) -> str:
    """A kind of students in a word or two, such as ``resnet20 hard``; its name where others are alike."""
    texts = {key: f"{each.network} {each.regime}" for key, each in kinds.items() if each.network}
    text = texts.get(name)
    return text if text and list(texts.values()).count(text) == 1 else name or "student"

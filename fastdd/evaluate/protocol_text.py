"""A protocol in a line of text, and its hash: both stand beside every accuracy."""

from __future__ import annotations

import hashlib
import json

from pydantic import JsonValue
from typing_extensions import TypedDict

from ..config import Student
from ..protocols.rules import UNLEARNED_RATE
from ..runtime.console import counted

FIRST = {
    "network",
    "steps",
    "batch",
    "lr",
    "weight_decay",
    "temperature",
    "labels",
    "teacher_mode",
    "mix",
    "mix_alpha",
    "pad",
    "flip",
    "evaluations",
    "precision",
}
"""values that are always hashed; later ones are where they differ from their default, so that hashes stay"""
UNHASHED = {"protocol", "seeds", "reported", "compile", "augment"}
"""values that change neither what a student learns nor what is measured, or that others say"""


class ProtocolRecord(TypedDict):
    """A protocol in a results' file."""

    name: str
    text: str
    hash: str
    reported: str
    values: dict[str, JsonValue]


def protocol_hash(config: Student) -> str:
    """Eight hex digits that change with every value of the protocol but those in UNHASHED."""
    defaults = {name: field.default for name, field in Student.model_fields.items()}
    values = config.model_dump(mode="json", exclude=UNHASHED)
    kept = {name: v for name, v in values.items() if name in FIRST or getattr(config, name) != defaults[name]}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:8]


def protocol_text(config: Student) -> str:
    """The protocol in a line; what it does not use is left out."""
    if config.epochs is not None:
        length = f"{counted(config.epochs, 'epoch')} in batches of {config.batch}"
    else:
        length = f"{counted(config.steps or 0, 'step')} of {counted(config.batch, 'image')}"
    length += " of the stored images" if config.per_epoch == "stored" else ""
    parts = [
        config.network,
        length + (f" in {counted(config.accumulate, 'part')}" if config.accumulate > 1 else ""),
        _optimizer(config),
        _schedule(config),
        _augmentation(config),
        _labels(config),
        _loss(config),
        *([f"weights averaged with {config.ema:g}"] if config.ema else []),
        *([f"best from {config.best_from:.0%} on"] if config.best_from else []),
        config.precision,
    ]
    return ", ".join(parts)


def _optimizer(config: Student) -> str:
    name = "AdamW" if config.optimizer == "adamw" else f"SGD {config.momentum:g}"
    rate = config.lr if isinstance(config.lr, str) else f"{config.lr:g}"
    if config.lr == "learned":
        rate = f"learned with the images, else {UNLEARNED_RATE:g},"
    return f"{name} lr {rate} wd {config.weight_decay:g}" + ("" if config.decay_norms else " of weights")


def _schedule(config: Student) -> str:
    text: str = config.schedule
    if config.schedule == "multistep":
        text += f" x{config.milestone_factor:g} after " + ", ".join(f"{part:g}" for part in config.milestones)
    if config.stretch != 1 and config.schedule in ("cosine", "cos2"):
        text += f" stretched {config.stretch:g}"
    if config.warmup:
        text += f" after a warm-up of {config.warmup:g} from {config.warmup_start:g}"
    text += " an epoch" if config.lr_interval == "epoch" else ""
    return text + (" and momentum anew" if config.restart_momentum and config.milestones else "")


def _augmentation(config: Student) -> str:
    texts = [f"whole stored images at {config.whole:g}"] if config.whole else []
    if config.randaugment is not None:
        values = config.randaugment
        texts.append(
            f"RandAugment({values.table}, {values.operations} of {values.magnitude:g}±{values.deviation:g} "
            f"at {values.probability:g})"
        )
    if config.shuffle_patches > 1:
        texts.append(f"{config.shuffle_patches} x {config.shuffle_patches} patches shuffled")
    if config.scale is None:
        texts.append(f"shift {config.pad} px" + (" in black" if config.pad_color == "black" else ""))
    else:
        texts.append(f"crop {config.scale[0]:g} to {config.scale[1]:g}")
    texts.append(f"flip {config.flip:g}")
    if config.siamese_always is not None:
        texts.append(f"Siamese {' + '.join(config.siamese_always)}")
    if config.siamese is not None:
        texts.append(f"Siamese {' | '.join(config.siamese)}")
    mixing = "no mixing" if config.mix == "none" else f"{config.mix}({config.mix_alpha:g})"
    if config.mix != "none" and config.mix_probability < 1:
        mixing += f" at {config.mix_probability:g}"
    return ", ".join([*texts, mixing])


def _labels(config: Student) -> str:
    if config.labels == "hard":
        return "hard labels" + ("" if config.mix == "none" else ", mixed as the images")
    stages = ""
    if config.label_stages is not None:
        stages = " in stages (" + ", ".join(f"{kind} {share:g}" for kind, share in config.label_stages) + ")"
    return f"{config.labels} labels of the teacher in {config.teacher_mode} mode{stages}"


def _loss(config: Student) -> str:
    text = _divergence(config)
    if config.labels == "hard":
        text = "cross-entropy"
    elif config.loss == "mse":
        text = "MSE of logits"
    elif config.loss == "cosine":
        text = "cosine of logits" + (f" + {config.hard_part:g} classes" if config.hard_part else "")
    text += f" + {config.hard_weight:g} CE" if config.hard_weight else ""
    return text + (f", classes smoothed by {config.hard_smoothing:g}" if config.hard_smoothing else "")


def _divergence(config: Student) -> str:
    text, schedule = f"KL at T = {config.temperature:g}", config.temperature_schedule
    if schedule is not None:
        text += f" falling to {schedule.low:g} "
        if schedule.kind == "step":
            text += f"(x{schedule.factor:g} every {schedule.every:g})"
        else:
            text += "(cosine)"
    if config.student_temperature is not None:
        text += f", the student's {config.student_temperature:g}"
    return text + (" times T^2" if config.t_squared else "")


def protocol_record(config: Student) -> ProtocolRecord:
    """The record of a protocol: name, line, hash, and every value."""
    return {
        "name": config.protocol,
        "text": protocol_text(config),
        "hash": protocol_hash(config),
        "reported": config.reported,
        "values": config.model_dump(mode="json"),
    }

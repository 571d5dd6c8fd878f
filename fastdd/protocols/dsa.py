"""DC's, DSA's, DM's, CAFE's, DataDAM's and MTT's evaluation: a ConvNet on the classes of the images.

One loop (``evaluate_synset`` of DC's released code) trains for E + 1 passes over the set. After pass
E // 2 + 1, counted from 0, it divides the learning rate by ten and makes a new optimizer, which has no
momentum. With E = 1000 the first pass at the lower rate is pass 502 of 0 to 1000. The milestone is the same
part of a training of another length. Each batch has one operation of Siamese augmentation, but for DC and
CAFE, and nothing else. The network is convnet3 for 32 pixels and convnet4 for 64.

DataDAM's released ConvNet has BatchNorm; the paper's network, with InstanceNorm, is taken. MTT's students
have the learning rate that was learned with the images.
"""

from __future__ import annotations

from ..config.sources import Sourced, code, paper
from .registry import register_protocol


def _length(released: int) -> dict[str, Sourced]:
    """Passes over the set and the milestone, for the released E."""
    passes = released + 1
    return {"epochs": code(passes), "milestones": code([(released // 2 + 2) / passes])}


PLAIN = {
    "network": code("convnet"),
    "batch": code(256),
    "optimizer": code("sgd"),
    "lr": code(0.01),
    "momentum": code(0.9),
    "weight_decay": code(5e-4),
    "decay_norms": code(True),
    "schedule": code("multistep"),
    "milestone_factor": code(0.1),
    "restart_momentum": code(True),
    "lr_interval": code("epoch"),
    "labels": code("hard"),
    "pad": code(0),
    "flip": code(0.0),
    "mix": code("none"),
    "evaluations": code(1),
    "reported": code("last"),
}
DC = {**PLAIN, **_length(300)}
CAFE = {**PLAIN, **_length(600)}

SIAMESE = {**PLAIN, "siamese": code(["color", "crop", "cutout", "flip", "scale", "rotate"])}
DSA = {**SIAMESE, **_length(1000)}
DATADAM = {**SIAMESE, **_length(1800), "network": paper("convnet"), "batch": code(64)}
MTT = {**DSA, "lr": code("learned")}

register_protocol("dc", DC)
register_protocol("cafe", CAFE)
register_protocol("dsa", DSA)
register_protocol("datadam", DATADAM)
register_protocol("mtt", MTT)

"""FADRM (Cui et al., NeurIPS 2025): SRe2L++ whose images are blended with their patches three times.

    x <- x / 2 + P / 2        at the end of each of the first three of four stages (recover/stages.py)

A new Adam begins each stage, the cosine of the learning rate goes on. Images of 224 pixels are of 200 pixels
in the first and third stage. The rest is SRe2L++'s, with half of its steps. Its patches of medium difficulty
are files without the program that cut them; ours are those of SRe2L++. On Tiny-ImageNet the released script
has two stages and a small learning rate. CIFAR-10 has no script: its values are those of CIFAR-100, whose
learning rate moves images far; ``method.lr=0.05`` is the other value that we compare.
"""

from ..config.sources import code, ours, paper
from . import sre2lpp
from .declaration import Declaration, Patch, register_method

METHOD = {
    **sre2lpp.METHOD,
    "title": paper("FADRM"),
    "residual": {"stages": code(4), "alpha": code(0.5), "reset": code(True), "anchor": code("initial")},
    "steps": code(2000),
    "save": {"format": code("png"), "rounding": code("truncate")},
}
SIZES = {"sizes": code([200, 224, 200, 224])}
LARGE: dict[str, Patch] = {
    "imagenet1k": {**SIZES, "augment": {"roll": code([0, 32])}},
    "imagenette": {**SIZES, "augment": {"roll": code([0, 32])}, "batch": {"classes": code(10)}},
}
ON: dict[str, Patch] = {
    **LARGE,
    "imagenette": {**LARGE["imagenette"], "lr": code(0.05)},
    "tiny": {"residual": {"stages": code(2)}, "steps": code(1000), "lr": code(0.01)},
}
SCRIPTS = ("cifar100", "tiny", "imagenet1k", "imagenette")
PROTOCOLS = {
    "cifar10": ours("fadrm-cifar10"),
    "cifar100": code("fadrm-cifar100"),
    "tiny": code("fadrm-tiny"),
    "imagenet1k": code("fadrm-imagenet"),
    "imagenette": code("fadrm-imagenette"),
}


def student_plus_at(dataset: str | None, ipc: int) -> Patch:
    """The preset of the images a class, for numbers without a script that of the nearest."""
    released = min((1, 10, 50), key=lambda known: abs(known - ipc))
    if ipc == 10 or dataset not in PROTOCOLS:
        return {}
    name = str(PROTOCOLS[dataset].value) + ("" if released == 10 else f"-ipc{released}")
    return {"protocol": code(name) if ipc == released else ours(name)}


def student_at(dataset: str | None, ipc: int) -> Patch:
    """The same, and on Tiny-ImageNet a teacher in eval mode."""
    mode = {"teacher_mode": code("eval")} if dataset == "tiny" else {}
    return {**student_plus_at(dataset, ipc), **mode}


register_method("fadrm", Declaration(METHOD, SCRIPTS, ON, protocol_on=PROTOCOLS, student_at=student_at))

"""Where the data sets that recipes name come from; fastdd downloads none of them.

No torch is imported here, so that a root that does not exist is told at once.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from ..errors import InputError, suggestion

SOURCES = {
    r"cifar-?100": "CIFAR-100: https://www.cs.toronto.edu/~kriz/cifar.html, as it is or unpacked",
    r"cifar": "CIFAR-10: https://www.cs.toronto.edu/~kriz/cifar.html, as it is or unpacked",
    r"tiny-?imagenet": "Tiny-ImageNet: http://cs231n.stanford.edu/tiny-imagenet-200.zip",
    r"imagenette|imagewoof": "Imagenette: https://github.com/fastai/imagenette",
    r"imagenet|ilsvrc": "ImageNet-1K: https://image-net.org, for those who register",
}
"""pattern of a root's last part -> where such files come from"""
ELSEWHERE = re.compile(r"[:{}*?]")
"""letters of a root that is no path: a pattern of shards, a function, a registered source"""


def origin_of(root: str) -> str:
    """Where the files of a well-known data set come from, for a message; empty for other roots."""
    name = Path(root).name.lower()
    found = next((text for pattern, text in SOURCES.items() if re.match(pattern, name)), None)
    return "" if found is None else f" ({found}; fastdd downloads nothing, give what you have as data.root)"


def require_known_root(root: str | None) -> None:
    """Refuse a file or folder of a well-known data set that is not there.

    Args:
        root: ``data.root`` of a recipe; None: it is not known yet.

    Raises:
        InputError: which says where it comes from.
    """
    origin = origin_of(root) if root else ""
    if root and origin and not ELSEWHERE.search(root) and not os.path.lexists(root):
        above = Path(root).parent
        near = os.listdir(above) if os.access(above, os.R_OK | os.X_OK) and above.is_dir() else []
        hint = suggestion(root, [str(above / name) for name in near])
        raise InputError(f"no data at {root!r}{hint}{origin}")

"""Prints the packages that a Python lacks for a mode of gpu.sh, one a line.

    python benchmarks/needs.py tests|bench|results

It needs the standard library alone. What the packages depend on is among the names, so each can be unpacked
from its wheel alone.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec

TESTS = {
    "torch": "torch",
    "triton": "triton",
    "torchvision": "torchvision",
    "numpy": "numpy",
    "pillow": "PIL",
    "torchmetrics": "torchmetrics",
    "lightning-utilities": "lightning_utilities",
    "typing-extensions": "typing_extensions",
    "packaging": "packaging",
    "pytest": "pytest",
    "pluggy": "pluggy",
    "iniconfig": "iniconfig",
    "pygments": "pygments",
}
"""name of a package -> the module by which it is known to be there"""
ENGINE = {
    "pydantic": "pydantic",
    "pydantic-core": "pydantic_core",
    "annotated-types": "annotated_types",
    "typing-inspection": "typing_inspection",
    "pyyaml": "yaml",
    "rich": "rich",
    "markdown-it-py": "markdown_it",
    "mdurl": "mdurl",
    "jinja2": "jinja2",
    "markupsafe": "markupsafe",
    "safetensors": "safetensors",
    "threadpoolctl": "threadpoolctl",
    "scikit-learn": "sklearn",
    "scipy": "scipy",
    "joblib": "joblib",
}
NEWER = {"scikit-learn": "narwhals", "joblib": "cloudpickle"}
"""package -> what its newer versions alone depend on"""
MODES = {"tests": TESTS, "bench": {**TESTS, **ENGINE}, "results": {**TESTS, **ENGINE}}


def missing(mode: str) -> list[str]:
    """Names of the packages of which this Python finds no module."""
    names = [name for name, module in MODES[mode].items() if find_spec(module) is None]
    return names + [also for name, also in NEWER.items() if name in names and find_spec(also) is None]


if __name__ == "__main__":
    print(*missing(sys.argv[1]), sep="\n", end="")

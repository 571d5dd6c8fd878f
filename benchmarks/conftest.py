"""The benchmarks find each other, and a result file says on what it was measured.

Where ``FASTDD_BENCH_RESULTS`` names a file, it is written anew after each benchmark, as ``--benchmark-json``
would write it at the end: what was measured survives a run that is cut off.
"""

from __future__ import annotations

import json
import os
import sys
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))

PACKAGES = (
    "torch",
    "triton",
    "torchvision",
    "torchmetrics",
    "prdc",
    "vendi-score",
    "scikit-learn",
    "scipy",
    "numpy",
)
# Fresh pages cost milliseconds a megabyte on some virtual machines, so how the allocator is set decides much.
ALLOCATOR = ("LD_PRELOAD", "MALLOC_CONF", "GLIBC_TUNABLES", "PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF")


def package_version(package: str) -> str | None:
    """The installed version of a package; None if it is absent."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def processor_name() -> str:
    """The model of the processor, where Linux tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return "unknown"
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else "unknown"


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_update_machine_info(machine_info: dict[str, object]) -> None:
    from works import DEVICE, QUICK

    cuda = DEVICE.type == "cuda"
    allocator = {k: v for k, v in os.environ.items() if k in ALLOCATOR or k.startswith("MALLOC_")}
    machine_info["fastdd"] = {
        "device": torch.cuda.get_device_name(DEVICE) if cuda else "cpu",
        "cuda": torch.version.cuda if cuda else None,
        "processor": processor_name(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "allocator": allocator or "default",
        "quick": QUICK,
        "packages": {package: package_version(package) for package in PACKAGES},
    }


@lru_cache(maxsize=1)
def _facts(config: pytest.Config) -> dict[str, object]:
    """The machine and the commit, which take a second to read."""
    session = config._benchmarksession  # type: ignore[attr-defined]
    commit = config.hook.pytest_benchmark_generate_commit_info(config=config)
    return {"machine_info": session.get_machine_info(), "commit_info": commit}


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item) -> None:
    path, session = os.environ.get("FASTDD_BENCH_RESULTS"), getattr(item.config, "_benchmarksession", None)
    if not path or session is None or not session.benchmarks:
        return
    result = item.config.hook.pytest_benchmark_generate_json(
        config=item.config, benchmarks=session.benchmarks, include_data=False, **_facts(item.config)
    )
    part = Path(f"{path}.part")
    part.write_text(json.dumps(result, default=str))
    part.replace(path)

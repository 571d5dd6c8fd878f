"""What a machine has of what fastdd uses, and what works there; ``fastdd doctor`` prints it.

What may hang or crash, the compilers, is tried in processes of its own, at the same time.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

import torch

from ..version import __version__
from .console import counted
from .memory import available_memory, processors

LONGEST = 12.0
"""seconds that the trials may take, all at the same time"""
LEAST_DISK = 2 * 10**9
"""bytes that should be free where runs are written"""
REQUIRED = ("torch", "torchvision", "safetensors", "numpy", "pydantic", "scikit-learn", "scipy")
OPTIONAL = {
    "triton": ("pip install triton", "on a GPU its kernels are faster than PyTorch's"),
    "nvidia-dali-cuda130": ("pip install 'fastdd[dali]'", "it decodes JPEGs on a GPU"),
    "timm": ("pip install 'fastdd[timm]'", "networks timm:NAME, and their weights"),
    "pyarrow": ("pip install 'fastdd[export]'", "Parquet files, read and exported"),
    "huggingface_hub": ("pip install 'fastdd[hub]'", "data sets hf:ORG/NAME, and export --push"),
    "torchmetrics": ("pip install 'fastdd[metrics]'", "fastdd.metrics, the classes for trainers"),
    "matplotlib": ("pip install 'fastdd[plots]'", "figures for papers"),
    "tensorboard": ("pip install 'fastdd[tensorboard]'", "log=[tensorboard]"),
    "wandb": ("pip install 'fastdd[wandb]'", "log=[wandb]"),
    "mlflow-skinny": ("pip install 'fastdd[mlflow]'", "log=[mlflow]"),
    "shtab": ("pip install 'fastdd[completion]'", "completion in shells"),
}
"""package -> the command that adds it, and what it is for"""
COMPILE = """
import time, torch
device = "cuda" if torch.cuda.is_available() else "cpu"
x = torch.ones(64, 64, device=device)
began = time.perf_counter()
torch.compile(lambda x: (2 * x + 1).relu().mean())(x).item()
print(f"{time.perf_counter() - began:.1f} s for a small graph on {device}")
"""
TRITON = """
import os, torch
gpu = torch.cuda.is_available()
if not gpu:
    os.environ["TRITON_INTERPRET"] = "1"
import fastdd_kernels as kernels
from fastdd_kernels import dispatch
dispatch.interpret_on_cpu = not gpu
x = torch.arange(16.0).view(1, 4, 4)
y = x.flip(2)
got = kernels.cosine_mean(x.cuda(), y.cuda()) if gpu else kernels.cosine_mean(x, y)
dispatch.interpret_on_cpu = False
wanted = torch.nn.functional.cosine_similarity(x[:, :, None], y[:, None], dim=3).mean(dim=(1, 2))
torch.testing.assert_close(got.cpu(), wanted)
print("a kernel ran on the GPU" if gpu else "a kernel ran in the interpreter; there is no GPU to run it on")
"""


@dataclass(frozen=True)
class Finding:
    """Something that was looked at.

    Attributes:
        state: ok; absent: it is not there, and runs do without it; fault: it does not work.
        text: what was found, in words.
        remedy: the command that adds or mends it; empty: there is nothing to do.
    """

    name: str
    state: Literal["ok", "absent", "fault"]
    text: str
    remedy: str = ""


def examine(folder: Path) -> list[Finding]:
    """Everything that fastdd depends on here, in the order in which it is told.

    Args:
        folder: where runs will be written; it need not exist yet.
    """
    deadline = time.monotonic() + LONGEST
    trials = {"torch.compile": _start(COMPILE), "Triton kernels": _start(TRITON)}
    found = [Finding("fastdd", "ok", f"{__version__}, Python {platform.python_version()}")]
    found += [_required(name) for name in REQUIRED]
    found += [_optional(name) for name in OPTIONAL]
    found += [_gpu(), _cores(), _memory(), _disk(folder)]
    return found + [_result(name, trial, deadline) for name, trial in trials.items()]


def installed_version(name: str) -> str | None:
    """The installed version of a package; None: it is absent."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _required(name: str) -> Finding:
    found = installed_version(name)
    return (
        Finding(name, "ok", found)
        if found
        else Finding(name, "fault", "not installed", "pip install --upgrade fastdd")
    )


def _optional(name: str) -> Finding:
    (command, use), found = OPTIONAL[name], installed_version(name)
    return Finding(name, "ok", found) if found else Finding(name, "absent", f"not installed: {use}", command)


def _gpu() -> Finding:
    driver = _driver()
    try:
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        names = [torch.cuda.get_device_name(number) for number in range(count)]
    except RuntimeError as error:  # a driver that is older than torch's CUDA
        return Finding("GPU", "fault", f"{error!s:.160}", "update the driver, or use device=cpu")
    if not names:
        text, built = "none that torch can use; runs are on the CPU", torch.version.cuda
        if driver is None:
            return Finding("GPU", "absent", text)
        remedy = "update the driver" if built else "install a torch with CUDA: https://pytorch.org"
        return Finding("GPU", "fault", f"{text}, though there is a driver {driver}", remedy)
    told = "" if driver is None else f", driver {driver}"
    return Finding("GPU", "ok", f"{', '.join(names)}; CUDA {torch.version.cuda}{told}")


def _driver() -> str | None:
    """The version of NVIDIA's driver; None where there is none."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LONGEST / 2, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return next(iter(done.stdout.split()), None)


def _cores() -> Finding:
    threads, cores = torch.get_num_threads(), processors()
    text = (
        f"{counted(threads, 'thread')} of torch on {cores} of {counted(os.cpu_count() or cores, 'processor')}"
    )
    return (
        Finding("threads", "fault", f"{text}: they wait for one another", f"export OMP_NUM_THREADS={cores}")
        if threads > cores
        else Finding("threads", "ok", text)
    )


def _memory() -> Finding:
    free = available_memory()
    return Finding("memory", "ok", "unknown" if free is None else f"{free / 1e9:.1f} GB are free")


def _disk(folder: Path) -> Finding:
    if folder.exists() and not folder.is_dir():
        return Finding("disk", "fault", f"{folder} is a file", "choose another --out")
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.is_dir())
    try:
        free = shutil.disk_usage(there).free
    except OSError as error:
        return Finding("disk", "fault", f"{there} cannot be used: {error.strerror}", "choose another --out")
    text = f"{free / 1e9:.1f} GB are free at {there}"
    if not os.access(there, os.W_OK):
        return Finding("disk", "fault", f"{there} cannot be written", "choose another --out")
    if free < LEAST_DISK:
        return Finding("disk", "fault", text, "choose another --out, or delete what is old")
    return Finding("disk", "ok", text)


def _start(program: str) -> subprocess.Popen[str] | str:
    """A process at work on a trial, or why it could not be started."""
    command = [sys.executable, "-c", program]
    try:
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    except OSError as error:
        return str(error)


def _result(name: str, trial: subprocess.Popen[str] | str, deadline: float) -> Finding:
    remedy = "recover.compile=false" if name == "torch.compile" else "pip install --upgrade triton"
    if isinstance(trial, str):
        return Finding(name, "fault", f"it could not be tried: {trial}", remedy)
    try:
        out, err = trial.communicate(timeout=max(0.1, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        trial.kill()
        trial.communicate()
        return Finding(name, "absent", f"not known: the trial took longer than {LONGEST:g} s")
    if trial.returncode == 0:
        return Finding(name, "ok", out.strip())
    lines = err.strip().splitlines()
    return Finding(name, "fault", f"{lines[-1] if lines else f'ended with {trial.returncode}':.160}", remedy)

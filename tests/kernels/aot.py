"""Compiles Triton kernels for GPUs that are not there, and reads from the binary what the GPU would be given.

    python tests/kernels/aot.py cuda:90 > report.json

Each of triton_calls.py's calls gives a launcher ordinary CPU tensors; the launch is caught, and compiled with
the very specialization (types, 16-byte alignment, ones, constants) that it would have had. Run as a program
of its own, without TRITON_INTERPRET, since the interpreter replaces the compiler for a whole process.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.runtime.jit import JITFunction
from triton_calls import CALLS

TARGETS = {
    "cuda:80": GPUTarget("cuda", 80, 32),
    "cuda:90": GPUTarget("cuda", 90, 32),
    "cuda:100": GPUTarget("cuda", 100, 32),
    "hip:gfx942": GPUTarget("hip", "gfx942", 64),
}
TYPES = {
    torch.float32: "*fp32",
    torch.float16: "*fp16",
    torch.bfloat16: "*bf16",
    torch.float64: "*fp64",
    torch.int32: "*i32",
    torch.int64: "*i64",
    torch.bool: "*i1",
    torch.int8: "*i8",
    torch.uint8: "*u8",
}
OPTIONS = ("num_warps", "num_stages", "enable_fp_fusion")
CUOBJDUMP = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"


class Launch(NamedTuple):
    kernel: JITFunction
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


@contextmanager
def caught_launches() -> Iterator[list[Launch]]:
    """Kernel launches inside are noted instead of made."""
    launches: list[Launch] = []

    def note(self: JITFunction, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> None:
        launches.append(Launch(self, args, kwargs))

    run, JITFunction.run = JITFunction.run, note  # type: ignore[method-assign]
    try:
        yield launches
    finally:
        JITFunction.run = run  # type: ignore[method-assign]


def source(launch: Launch) -> tuple[ASTSource, dict[str, Any]]:
    """What Triton would compile for a launch: the kernel, specialized as the arguments have it."""
    kernel = launch.kernel
    options = {name: value for name, value in launch.kwargs.items() if name in OPTIONS}
    named = {name: value for name, value in launch.kwargs.items() if name not in OPTIONS}
    values = dict(zip(kernel.arg_names, launch.args, strict=False)) | named
    assert set(values) == set(kernel.arg_names), set(kernel.arg_names) ^ set(values)
    signature: dict[str, str] = {}
    constants: dict[tuple[int, ...], Any] = {}
    attributes: dict[tuple[int, ...], list[list[Any]]] = {}
    for i, parameter in enumerate(kernel.params):
        value = values[parameter.name]
        if parameter.is_constexpr or value is None or (type(value) is int and value == 1):
            signature[parameter.name], constants[(i,)] = "constexpr", value
        elif isinstance(value, torch.Tensor):
            signature[parameter.name], attributes[(i,)] = TYPES[value.dtype], [["tt.divisibility", 16]]
        elif isinstance(value, float):
            signature[parameter.name] = "fp32"
        else:
            signature[parameter.name] = "i32" if abs(value) < 2**31 else "i64"
            if value % 16 == 0:
                attributes[(i,)] = [["tt.divisibility", 16]]
    return ASTSource(fn=kernel, signature=signature, constexprs=constants, attrs=attributes), options


def nvidia_report(compiled: Any) -> dict[str, Any]:
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled.asm["cubin"])
        file.flush()
        command = [CUOBJDUMP, "--dump-resource-usage", file.name]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    ptx = compiled.asm["ptx"]
    return {
        "registers": int(re.findall(r"REG:(\d+)", text)[0]),
        "spills": sum(int(n) for n in re.findall(r"(?:STACK|LOCAL):(\d+)", text)),
        "tensor_cores": len(re.findall(r"wgmma\.mma_async|mma\.sync|tcgen05\.mma", ptx)),
        "wide_loads": len(
            re.findall(r"ld\.global\S*\.v4\.[bf]32|ld\.global\S*\.v2\.[bf]64|cp\.async\.cg", ptx)
        ),
        "narrow_loads": len(re.findall(r"ld\.global\S*\.(?:v2\.)?[bfu](?:16|32|64)\b", ptx)),
        "float_atomics": len(re.findall(r"(?:atom|red)\.global\S*\.add\S*\.f(?:16|32|64)", ptx)),
    }


def amd_report(compiled: Any) -> dict[str, Any]:
    text = compiled.asm["amdgcn"]
    return {
        "registers": int(re.findall(r"\.vgpr_count:\s*(\d+)", text)[0]),
        # Scalar registers spill to vector registers; it is scratch memory that would cost.
        "spills": sum(
            int(n) for n in re.findall(r"(?:vgpr_spill_count|private_segment_fixed_size):\s*(\d+)", text)
        ),
        "tensor_cores": len(re.findall(r"v_mfma", text)),
        "wide_loads": len(re.findall(r"(?:global|buffer)_load_dwordx4", text)),
        "narrow_loads": len(re.findall(r"(?:global|buffer)_load_(?:dword\b|dwordx2|short|ushort)", text)),
        "float_atomics": len(re.findall(r"(?:global|buffer)_atomic_add_f(?:32|64)", text)),
    }


def report(call: Callable[[], object], target: str) -> list[dict[str, Any]]:
    """One row for each launch that a call makes."""
    with caught_launches() as launches:
        call()
    rows = []
    for launch in launches:
        src, options = source(launch)
        compiled = triton.compile(src, target=TARGETS[target], options=options)
        read = amd_report if target.startswith("hip") else nvidia_report
        rows.append({"kernel": launch.kernel.__name__, "shared": compiled.metadata.shared, **read(compiled)})
    return rows


def main(target: str) -> None:
    if target.startswith("hip"):
        torch.version.hip = "compiled for AMD"  # what launchers look at to choose the arithmetic of a product
    print(json.dumps({name: report(call, target) for name, call in CALLS.items()}))


if __name__ == "__main__":
    main(sys.argv[1])

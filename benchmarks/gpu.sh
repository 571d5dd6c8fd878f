#!/usr/bin/env bash
# Kernel tests and benchmarks on one CUDA GPU, in under nine minutes; run from anywhere in a checkout, nothing installed.
#
#     [OUT=folder] [PYTHON=python] bash benchmarks/gpu.sh
#
# Leaves kernels.json, table.md and tests.log in OUT/<gpu> (benchmarks/results/<gpu> by default). The benchmarks run
# even where a test fails; the exit status is then 1 all the same. Clocks and settings of the GPU are left alone.
set -euo pipefail
cd "$(dirname "$0")/.."

python=${PYTHON:-python}
export PYTHONPATH="$PWD:$PWD/kernels${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1

"$python" -c 'import pytest_benchmark' 2>/dev/null || {
    echo "benchmarks/gpu.sh needs pytest-benchmark: $python -m pip install pytest pytest-benchmark" >&2
    exit 2
}
gpu=$("$python" - <<'PYTHON'
import sys
import torch
if not torch.cuda.is_available():
    sys.exit("benchmarks/gpu.sh needs a CUDA GPU that torch can use")
print(torch.cuda.get_device_name(0).replace(" ", "_").replace("/", "_"))
PYTHON
)
folder=${OUT:-benchmarks/results}/$gpu
mkdir -p "$folder"

"$python" - <<'PYTHON'
import torch
try:
    from triton import __version__ as triton
except ImportError:
    triton = "absent"
properties = torch.cuda.get_device_properties(0)
print(f"{properties.name}, {properties.total_memory / 1e9:.0f} GB, sm_{properties.major}{properties.minor}")
print(f"torch {torch.__version__}, CUDA {torch.version.cuda}, triton {triton}")
PYTHON
nvidia-smi --query-gpu=driver_version,temperature.gpu,clocks.sm --format=csv,noheader || echo "no nvidia-smi"

# An interrupt, not a kill: pytest then still reports what it has.
limited() { timeout --signal=INT --kill-after=15 "$@"; }

status=0
limited 240 "$python" -m pytest tests/kernels --maxfail=20 2>&1 | tee "$folder/tests.log" || status=1
[ "$status" = 0 ] || echo "tests failed or did not end in time: see $folder/tests.log" >&2

rm -f "$folder/kernels.json"
FASTDD_BENCH_DEVICE=cuda limited 240 "$python" -m pytest benchmarks/test_kernels.py \
    --benchmark-json="$folder/kernels.json" --benchmark-columns=median,min,rounds || status=1
if [ -s "$folder/kernels.json" ]; then
    "$python" benchmarks/table.py "$folder/kernels.json" | tee "$folder/table.md"
else
    echo "no benchmark ended in time" >&2
    status=1
fi
exit "$status"

#!/usr/bin/env bash
# Kernel tests, benchmarks and whole runs on one CUDA GPU; run from anywhere in a checkout, nothing installed, no network.
#
#     [PYTHON=python3] [WHEELS=folder] [OUT=folder] [DATA=cifar10.tar.xz] bash benchmarks/gpu.sh tests|bench|results [--dry-run]
#
#     tests      what only a GPU can show, in at most 3 minutes
#     bench      kernels and whole steps against what people use, in at most 8 minutes: the works of every step first,
#                torch.compile's last
#     results    a whole run of the digits and, with DATA, of CIFAR-10, in at most 9 minutes; again to continue
#
# Packages that PYTHON lacks are taken from the folder WHEELS of .whl files, without those that they depend on (needs.py
# lists them all). What is found lies in OUT/<gpu> (benchmarks/results/<gpu> by default), each result written as it is
# made. A failure does not stop what comes after it; the exit status is then 1. --dry-run only says what would run, and
# needs no GPU. Clocks and settings of the GPU are left alone.
set -euo pipefail
cd "$(dirname "$0")/.."

fail() {
    echo "benchmarks/gpu.sh: $1" >&2
    exit 2
}

mode=${1:-} option=${2:-}
case $mode in tests | bench | results) ;; *) fail "say what to do: tests, bench or results" ;; esac
case $option in "" | --dry-run) ;; *) fail "unknown option $option; there is --dry-run" ;; esac
python=${PYTHON:-python3}
command -v "$python" >/dev/null || fail "there is no $python; name one with PYTHON=..."
export PYTHONPATH="$PWD:$PWD/kernels${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1

gpu="<gpu>"
if [ -z "$option" ]; then
    gpu=$("$python" -W ignore - 2>/dev/null <<'PYTHON'
import torch
if not torch.cuda.is_available():
    raise SystemExit(1)
print(torch.cuda.get_device_name(0).replace(" ", "_").replace("/", "_"))
PYTHON
    ) || fail "needs a CUDA GPU that the torch of $python can use"
fi
folder=${OUT:-benchmarks/results}/$gpu
if [ -z "$option" ]; then
    mkdir -p "$folder"
    folder=$(cd "$folder" && pwd)
fi

# What is missing is said before anything runs.
missing=$("$python" benchmarks/needs.py "$mode") || fail "$python does not start"
if [ -n "$missing" ] && [ -z "$option" ]; then
    [ -n "${WHEELS:-}" ] || fail "$mode needs $(echo $missing); give a folder of their wheels with WHEELS=..."
    [ -d "$WHEELS" ] || fail "WHEELS=$WHEELS is no folder"
    # shellcheck disable=SC2086
    "$python" -m pip install --quiet --no-index --no-deps --find-links "$WHEELS" --target "$folder/packages" $missing ||
        fail "$WHEELS lacks one of: $(echo $missing)"
    export PYTHONPATH="$PYTHONPATH:$folder/packages"
    missing=$("$python" benchmarks/needs.py "$mode")
    [ -z "$missing" ] || fail "$mode still needs $(echo $missing) after the wheels of $WHEELS were unpacked"
elif [ -n "$missing" ]; then
    echo "missing: $(echo $missing)"
fi

status=0
# limited SECONDS NAME COMMAND...: its output also goes to NAME.log. An interrupt, not a kill: it then says what it has.
limited() {
    local seconds=$1 name=$2
    shift 2
    if [ -n "$option" ]; then
        printf '%4d s  %s\n' "$seconds" "$*"
        return
    fi
    timeout --signal=INT --kill-after=10 "$seconds" "$@" 2>&1 | tee "$folder/$name.log" || {
        status=1
        echo "$name failed or did not end in $seconds s: see $folder/$name.log" >&2
    }
}

if [ -z "$option" ]; then
    "$python" -W ignore - <<'PYTHON' | tee "$folder/machine.txt"
import sys
import torch, triton
gpu = torch.cuda.get_device_properties(0)
print(f"{gpu.name}, {gpu.total_memory / 1e9:.0f} GB, sm_{gpu.major}{gpu.minor}")
print(f"Python {sys.version.split()[0]}, torch {torch.__version__}, CUDA {torch.version.cuda}, triton {triton.__version__}")
PYTHON
    nvidia-smi --query-gpu=driver_version,temperature.gpu,clocks.sm --format=csv,noheader || echo "no nvidia-smi"
fi

measure() { # measure SECONDS NAME SUBJECT OPTION...: what was measured is in the file after each work
    local seconds=$1 name=$2
    shift 2
    limited "$seconds" "$name" "$python" -m fastdd bench "$@" --device cuda --json "$folder/suite.json"
}

case $mode in
tests)
    # The tests' other halves, on the CPU and ahead of time for other GPUs, run anywhere.
    limited 150 tests "$python" -m pytest tests/kernels -m "not slow" -k "test_gpu or triton" --maxfail=50 -vv --tb=short
    ;;
bench)
    [ -n "$option" ] || rm -f "$folder/suite.json"
    every_step="moments_*,batch_norm*,resample"
    measure 90 kernels-1 kernels --works "$every_step" --no-compiled
    measure 130 steps recover --works statistics,sre2l,dire --precision bf16 --no-compiled
    measure 130 kernels-2 kernels --works "dire,gaussian,pairs_*,coverage*,prdc,vendi_*,accumulate_*" --no-compiled
    measure 90 kernels-3 kernels --works "$every_step,pairs_*,dire,gaussian"
    ;;
results)
    limited 150 digits "$python" -m fastdd run digits device=cuda --out "$folder/digits"
    if [ -n "${DATA:-}" ]; then
        limited 360 cifar10 "$python" -m fastdd run cifar10-table "data.root=$DATA" device=cuda --out "$folder/cifar10"
    else
        echo "no CIFAR-10: give its archive with DATA=..."
    fi
    ;;
esac
exit "$status"

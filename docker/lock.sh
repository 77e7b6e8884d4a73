#!/bin/sh
# Write the locks that the Dockerfile installs from.
# usage: docker/lock.sh [--upgrade]      (needs uv; --upgrade takes newer versions)
#
# TORCH is the version of all variants but cuda12, whose TORCH_CUDA12 is the newest on PyPI that
# brings CUDA 12, for older drivers. TORCH_CPU_WHEELS is a page or folder with torch's CPU wheels.
set -eu
cd "$(dirname "$0")/.."
upgrade=${1:-}
torch=${TORCH:-2.13.0}
torch_cuda12=${TORCH_CUDA12:-2.10.0}
cpu_wheels=${TORCH_CPU_WHEELS:-https://download.pytorch.org/whl/cpu/torch/}

lock() { # NAME REQUIREMENT OPTION...: for the Python of Debian bookworm
    file=docker/requirements-$1.lock
    requirement=$2
    shift 2
    echo "$requirement" | uv pip compile - "$@" ${upgrade:+"$upgrade"} \
        --quiet --generate-hashes --python-version 3.11 --python-platform x86_64-manylinux_2_28 \
        --no-emit-index-url --no-emit-find-links --no-annotate \
        --custom-compile-command docker/lock.sh --output-file "$file"
    echo "wrote $file"
}

lock cpu "torch==$torch+cpu" pyproject.toml --extra openvino --find-links "$cpu_wheels"
lock cuda "torch==$torch" pyproject.toml
lock cuda12 "torch==$torch_cuda12" pyproject.toml
lock build "$(sed -n 's/^requires = \["\(.*\)"\]$/\1/p' pyproject.toml)"

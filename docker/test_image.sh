#!/usr/bin/env bash
# Build the image and run it as a user without rights: no network, read-only, no capabilities.
# usage: docker/test_image.sh [cpu|cuda|cuda12]
#
# cpu (the default) is built and runs the whole job; cuda is built and measured, and imports torch.
# Docker is used where an engine answers. Otherwise, as root on Debian: buildah, podman and runc,
# with a base image made by debootstrap from the machine's own Debian mirror.
#
#   AUTOSEG_BUILD_ARGS   more options for the build, such as "--build-arg NAME=VALUE"
#   AUTOSEG_STORE        folder to keep buildah's images in (default: a new one, deleted at the end)
#   AUTOSEG_DEMO_ARGS    options of `autoseg demo`, such as "--minutes 0.5"
set -euo pipefail

cd "$(dirname "$0")/.."
variant=${1:-cpu}
case $variant in cpu | cuda | cuda12) ;; *) echo "usage: $0 [cpu|cuda|cuda12]" >&2; exit 2 ;; esac
image=localhost/autoseg-test:$variant
base=docker.io/library/debian:bookworm-slim
scratch=$(mktemp -d)
kept=${XDG_CACHE_HOME:-$HOME/.cache}/autoseg-image-test
passed=0

step() { printf '\n== %s\n' "$*"; }
fail() { printf 'FAILED: %s\n' "$*" >&2; exit 1; }
check() { # NAME COMMAND...
    local name=$1
    shift
    "$@" || fail "$name"
    echo "ok: $name"
    passed=$((passed + 1))
}
clean() {
    if [ -d "$scratch/data" ]; then as_root "rm -rf data data_of_another" || true; fi
    if [ "${engine:-}" = podman ] && [ -z "${AUTOSEG_STORE:-}" ]; then
        "${podman[@]}" rmi --all --force >/dev/null 2>&1 || true
        umount "$scratch/store/images/overlay" 2>/dev/null || true
    fi
    rm -rf "$scratch"
}
trap clean EXIT

# --- the engine ---------------------------------------------------------------------------------

find_engine() {
    if docker version --format '{{.Server.Version}}' >"$scratch/version" 2>/dev/null; then
        engine=docker
        echo "docker $(cat "$scratch/version")"
        return
    fi
    engine=podman
    install_tools
    local store=${AUTOSEG_STORE:-$scratch/store}
    mkdir -p "$store"
    roots=(--root "$store/images" --runroot "$store/run")
    podman=(podman "${roots[@]}" --runtime "$runc")
    echo "no Docker engine: $(buildah --version | cut -d' ' -f1-3), $(podman --version), $runc"
    if ! "${podman[@]}" image exists "$base"; then make_base; fi
}

install_tools() {
    local missing=() tool
    for tool in buildah podman runc debootstrap; do
        command -v "$tool" >/dev/null || missing+=("$tool")
    done
    [ "$(id -u)" = 0 ] || fail "no Docker engine answers; building without one needs root"
    if [ ${#missing[@]} -gt 0 ]; then
        echo "installing ${missing[*]}"
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -yqq --no-install-recommends \
            "${missing[@]}" >/dev/null
    fi
    runc=$(command -v runc) # crun before 1.9 refuses hybrid cgroups
}

make_base() {
    if [ ! -s "$kept/bookworm.tar" ]; then
        echo "making a stand-in for $base with debootstrap"
        local root=$scratch/base mirror
        mirror=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null |
            grep -v '^#' | grep -oE '[a-z]+:[^ ]+/debian/?( |$)' | head -n 1 || true)
        debootstrap --variant=minbase --include=ca-certificates bookworm "$root" \
            ${mirror:+"$mirror"} >"$scratch/debootstrap.log" 2>&1 ||
            { tail -n 20 "$scratch/debootstrap.log"; fail debootstrap; }
        rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* \
            "$root"/usr/share/{doc,man,locale}/* "$root"/etc/{resolv.conf,hostname}
        mkdir -p "$kept"
        tar -C "$root" --numeric-owner -cf "$kept/bookworm.tar.part" .
        mv "$kept/bookworm.tar.part" "$kept/bookworm.tar"
        rm -rf "$root"
    fi
    "${podman[@]}" import -q -c 'CMD ["bash"]' "$kept/bookworm.tar" "$base" >/dev/null
}

# --- building -----------------------------------------------------------------------------------

pip_setting() { python3 -m pip config get "global.$1" 2>/dev/null | tr '\n' ' ' || true; }

# This machine's pip settings, if it has any, go into the build as secrets and into no layer.
write_pip_settings() {
    local key value word
    ca=$(pip_setting cert)
    ca=${ca:-${PIP_CERT:-/etc/ssl/certs/ca-certificates.crt}}
    ca=${ca%% *}
    echo "[global]" >"$scratch/pip.conf"
    if [ -r "$ca" ]; then
        echo "cert = /run/secrets/ca.crt" >>"$scratch/pip.conf"
        secrets=(--secret "id=pipconf,src=$scratch/pip.conf" --secret "id=ca,src=$ca")
    else
        secrets=(--secret "id=pipconf,src=$scratch/pip.conf")
    fi
    for key in index-url extra-index-url find-links; do
        value=$(pip_setting "$key")
        [ -z "$value" ] || echo "$key = $value" >>"$scratch/pip.conf"
        for word in $value; do # folders are shown to the build, under their own names
            word=${word#file://}
            word=${word%/simple}
            [ ! -d "$word" ] || folders+=(-v "$word:$word:ro")
            if compgen -G "$word/torch-*+cpu-*.whl" >/dev/null; then torch_is_here=yes; fi
        done
    done
}

build() {
    local options=(
        -f docker/Dockerfile -t "$image" --network host --build-arg "VARIANT=$variant"
        --build-arg "VERSION=$(sed -n 's/^__version__ = "\(.*\)"/\1/p' autoseg/version.py)"
    )
    folders=()
    torch_is_here=
    write_pip_settings
    options+=("${secrets[@]}")
    # shellcheck disable=SC2206 # several words are meant
    options+=(${AUTOSEG_BUILD_ARGS:-})
    if [ "$engine" = docker ]; then
        DOCKER_BUILDKIT=1 docker build "${options[@]}" .
        return
    fi
    if [ -n "$torch_is_here" ]; then options+=(--build-arg TORCH_CPU_INDEX=); fi
    mkdir -p "$scratch/tmp"
    TMPDIR=$scratch/tmp buildah "${roots[@]}" bud --runtime "$runc" --pull-never --format docker \
        --layers "${folders[@]}" "${options[@]}" .
}

# --- running ------------------------------------------------------------------------------------

engine_run() { # OPTION... IMAGE ARGUMENT... as given to the engine
    if [ "$engine" = docker ]; then
        docker run --rm --network none "$@"
    else # the limits of the host's session could not be raised by an engine without that right
        "${podman[@]}" run --rm --network none --no-healthcheck \
            --ulimit nofile=1024:1024 --ulimit nproc=4096:4096 "$@"
    fi
}
# Without rights: nothing of the host is seen but the folder at /data, which is the current $data.
run() {
    engine_run --read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges \
        -v "$data:/data" "$@"
}
# With rights, for folders and files of users that the host's user may not touch.
as_root() {
    engine_run --user 0:0 -v "$scratch:/scratch" --workdir /scratch --entrypoint sh "$image" \
        -ec "$1"
}
autoseg() { run "$image" "$@"; }
python() { run --entrypoint python "$image" "$@"; }

masks_are_readable() { # SCANS MASKS, as the container names them
    python -c '
import sys
from pathlib import Path

import nibabel
import numpy as np

scans, masks = map(Path, sys.argv[1:])
names = sorted(p.name for p in scans.glob("*.nii.gz"))
assert names, f"no scans in {scans}"
for name in names:
    scan, mask = nibabel.load(scans / name), nibabel.load(masks / name)
    values = np.unique(np.asarray(mask.dataobj))
    assert mask.shape == scan.shape, f"{name}: {mask.shape}, not {scan.shape}"
    assert np.allclose(mask.affine, scan.affine), f"{name}: another affine"
    assert len(values) > 1, f"{name}: empty"
    print(f"  {name}: {mask.shape}, labels {values.tolist()}")
' "$1" "$2"
}

measure() {
    local tool=(docker)
    [ "$engine" = docker ] || tool=("${podman[@]}")
    "${tool[@]}" image inspect --format 'image: {{.Size}} bytes; its layers, newest first:' "$image"
    "${tool[@]}" history --no-trunc --format '{{.Size}}|{{.CreatedBy}}' "$image" |
        awk -F'|' '$1 !~ /^0 ?B/ { printf "%10s  %.90s\n", $1, $2 }'
}

as_user_of_the_image() {
    data=$scratch/data
    as_root "mkdir data && chown 1000:1000 data"
    check "autoseg --version" autoseg --version
    check "it is user 1000" test "$(run --entrypoint id "$image" -u)" = 1000
    local absent="c++ g++ clang pip pip3"
    if [ "$variant" = cpu ]; then absent="cc gcc $absent"; fi
    check "no $absent, and no secret is in it" run --entrypoint sh "$image" -c "
        for name in $absent; do ! command -v \$name || exit 1; done
        ! test -e /etc/pip.conf && ! test -e /run/secrets/ca.crt"
    step "import torch"
    check "import torch" python -c '
import time; start = time.perf_counter()
import torch
print(f"torch {torch.__version__}, CUDA {torch.version.cuda},", end=" ")
print(f"a GPU is seen: {torch.cuda.is_available()}, {time.perf_counter() - start:.1f} s")'
}

the_whole_job() {
    if autoseg doctor --help >/dev/null 2>&1; then
        step "autoseg doctor"
        check "autoseg doctor" autoseg doctor
    else
        echo "note: this version has no \`autoseg doctor\`; skipped"
    fi

    step "autoseg demo"
    # shellcheck disable=SC2086 # several words are meant
    check "autoseg demo" autoseg demo ${AUTOSEG_DEMO_ARGS:-}

    step "autoseg predict, with the demo's model"
    local models=autoseg_demo/autoseg_work/models
    model=$(cd "$data" && echo "$models"/*/3d_fullres/fold_0/model.safetensors)
    check "autoseg predict" autoseg predict autoseg_demo/scans masks --model "$model"
    check "its masks are readable" masks_are_readable autoseg_demo/scans masks
}

as_another_user() {
    step "the same as user 4321:4321, with a cache that cannot be written"
    data=$scratch/data_of_another
    as_root "
        mkdir data_of_another sealed
        cp -r data/autoseg_demo/scans data_of_another/scans
        cp data/$model data_of_another/model.safetensors
        chown -R 4321:4321 data_of_another
        chmod 555 sealed"
    local as=(--user 4321:4321 -v "$scratch/sealed:/cache:ro")
    check "import torch as 4321" run "${as[@]}" --entrypoint python "$image" -c 'import torch'
    check "autoseg predict as 4321" run "${as[@]}" "$image" \
        predict scans masks --model model.safetensors
    check "its masks are readable" masks_are_readable scans masks
    check "the masks belong to 4321" test "$(stat -c %u "$data"/masks/*.nii.gz | sort -u)" = 4321
}

step "engine"
find_engine
step "build of the $variant variant"
seconds=$SECONDS
build >"$scratch/build.log" 2>&1 || { tail -n 60 "$scratch/build.log"; fail "build"; }
echo "built in $((SECONDS - seconds)) s"
measure
step "running it"
as_user_of_the_image
if [ "$variant" != cpu ]; then
    check "what Triton launches kernels with is built and loaded" python -c '
import importlib.util, pathlib, subprocess, sysconfig, triton
from triton.runtime.build import _build
source = pathlib.Path("/cache/probe.c")
source.write_text("""#include <Python.h>
static struct PyModuleDef probe = {PyModuleDef_HEAD_INIT, "probe", 0, -1, 0};
PyMODINIT_FUNC PyInit_probe(void) { return PyModule_Create(&probe); }
""")
built = _build("probe", str(source), "/cache", [], [], [], [])
spec = importlib.util.spec_from_file_location("probe", built)
spec.loader.exec_module(importlib.util.module_from_spec(spec))
nvidia = pathlib.Path(triton.__file__).parent / "backends" / "nvidia"
headers = [nvidia / "include", sysconfig.get_paths()["include"]]
command = ["cc", "-c", "-fPIC", *(f"-I{path}" for path in headers)]
subprocess.run([*command, str(nvidia / "driver.c"), "-o", "/cache/driver.o"], check=True)'
fi
if [ "$variant" = cpu ]; then
    the_whole_job
    as_another_user
fi
printf '\n%s passed, 0 failed\n' "$passed"

"""What this machine offers, and what to do about what is missing."""

import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from autoseg.errors import AutosegError
from autoseg.machine import GIB, GPU_DRIVER, cpu_flags, free_memory_gib, machine_without_gpu
from autoseg.records import Record
from autoseg.version import __version__

PACKAGES = ("torch", "numpy", "nibabel", "SimpleITK", "blosc2", "pydantic", "safetensors")
SMALLEST_DRIVER = {12: 525, 13: 580}  # NVIDIA driver that each CUDA major version needs
TORCH_WITH_CUDA_12 = "2.10.*"  # the last on PyPI that brings it
FEW_DISK_GIB = 10.0
LITTLE_MEMORY_GIB = 4.0
CPU_FEATURES = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")


class Finding(Record):
    """One thing looked at; `advice` is None where all is well."""

    name: str
    value: str
    advice: str | None = None


def examine(folder: Path) -> list[Finding]:
    """Look at Python, packages, processor, memory, the disk of a folder, torch and the GPU."""
    from autoseg.device import gpus  # torch takes seconds to import

    names = gpus()
    return [
        Finding(name="autoseg", value=__version__),
        Finding(name="Python", value=f"{platform.python_version()} at {sys.executable}"),
        *(Finding(name=package, value=_version(package)) for package in PACKAGES),
        _processor(trains=not names),
        _memory(),
        _disk(folder),
        *(_gpu_finding(name) for name in names),
        *_torch_findings(names),
    ]


def _processor(trains: bool) -> Finding:
    machine = machine_without_gpu()
    features = [name for name in CPU_FEATURES if name in cpu_flags()]
    return Finding(
        name="processor",
        value=f"{machine.cores} cores; {', '.join(features) or 'none of the usual extensions'}",
        advice="This processor does not multiply bfloat16 quickly, so training on it takes about "
        "twice as long."
        if trains and not machine.bf16
        else None,
    )


def _memory() -> Finding:
    free_gib = free_memory_gib()
    few = free_gib <= LITTLE_MEMORY_GIB
    return Finding(
        name="memory",
        value=f"{free_gib:.1f} of {machine_without_gpu().memory_gib:.1f} GiB free",
        advice="Close other programs, or prepare with --workers 1." if few else None,
    )


def _disk(folder: Path) -> Finding:
    free_gib = shutil.disk_usage(folder).free / GIB
    few = free_gib <= FEW_DISK_GIB
    return Finding(
        name="disk",
        value=f"{free_gib:.1f} GiB free in {folder.resolve()}",
        advice="Prepared scans may need more; choose another disk with --work." if few else None,
    )


def _torch_findings(usable: Sequence[str]) -> list[Finding]:
    """What torch is built for; where it can use no GPU, why not."""
    import torch

    cuda = torch.version.cuda
    build = f"CUDA {cuda}" if cuda else "without CUDA"
    version = driver_version()
    driver = f"driver {version or 'unknown'}"
    if usable:
        return [Finding(name="CUDA", value=f"{build}, {driver}")]
    model = _ask_nvidia("name")
    if model is None:
        advice = "There is no NVIDIA GPU, so plans are made for the CPU."
        return [Finding(name="GPU", value=f"none; torch is built {build}", advice=advice)]
    advice = "Install a torch with CUDA: pip install --force-reinstall torch"
    if cuda is not None:
        advice = driver_too_old(cuda, version) or (
            "torch cannot use the GPU. In a container, run it with --gpus all; if "
            "CUDA_VISIBLE_DEVICES is set, see that it names a GPU."
        )
    return [
        Finding(name="GPU", value=f"{model}, {driver}"),
        Finding(name="CUDA", value=build if cuda else "torch has none", advice=advice),
    ]


def driver_version() -> str | None:
    """The NVIDIA driver's version, from its program or from the kernel, whether torch can use it or
    not."""
    told = _ask_nvidia("driver_version")
    if told is None and (GPU_DRIVER / "version").exists():
        text = (GPU_DRIVER / "version").read_text(encoding="utf-8", errors="replace")
        found = re.search(r"^NVRM version:.*?\s(\d{3,}\.\d+(?:\.\d+)?)\s", text, re.MULTILINE)
        told = None if found is None else found[1]
    return told


def driver_too_old(cuda: str, driver: str | None) -> str | None:
    """What to do where a torch that is built for some CUDA needs a newer driver; None where this
    one suffices, or is not known."""
    needed = SMALLEST_DRIVER.get(int(cuda.split(".")[0]))
    major = re.match(r"\d+", driver or "")
    if needed is None or major is None or int(major[0]) >= needed:
        return None
    advice = f"This torch's CUDA {cuda} needs driver {needed} or newer, here is {driver}: update it"
    if int(major[0]) >= SMALLEST_DRIVER[12]:
        advice += f", or pip install 'torch=={TORCH_WITH_CUDA_12}' (image: VARIANT=cuda12)"
    return f"{advice}."


def _gpu_finding(name: str) -> Finding:
    """What a GPU is, how much of it is free, and what slows it down."""
    from autoseg.device import choose_device, machine_of

    try:
        machine = machine_of(choose_device(name))
    except AutosegError as error:
        return Finding(name=name, value="not usable", advice=str(error))
    advice = []
    if machine.gpu_is_shared:
        advice.append("Others use its memory, so plans are made for what is free; end them first.")
    if not machine.bf16:
        advice.append("It is older than Ampere: training runs in half precision.")
    return Finding(
        name=name,
        value=f"{machine.gpu_name}, {machine.gpu_memory_in_words}",
        advice=" ".join(advice) or None,
    )


def _ask_nvidia(what: str) -> str | None:
    """A property of the first GPU that the driver knows, whether torch can use it or not."""
    if shutil.which("nvidia-smi") is None:
        return None
    try:
        answer = subprocess.run(
            ["nvidia-smi", f"--query-gpu={what}", "--format=csv,noheader"],
            capture_output=True, text=True, check=True, timeout=30,
        )  # fmt: skip
    except (subprocess.SubprocessError, OSError):
        return None
    return next(iter(answer.stdout.strip().splitlines()), None)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"

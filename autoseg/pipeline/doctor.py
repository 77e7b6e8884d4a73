"""What this machine offers, and what to do about what is missing."""

import platform
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from autoseg import __version__
from autoseg.machine import GIB, cpu_flags, detect_machine, free_memory_gib
from autoseg.records import Record

PACKAGES = ("torch", "numpy", "nibabel", "SimpleITK", "blosc2", "pydantic", "safetensors")
SMALLEST_DRIVER = {12: 525, 13: 580}  # NVIDIA driver that each CUDA major version needs
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
    machine = detect_machine()
    free_disk_gib = shutil.disk_usage(folder).free / GIB
    free_gib = free_memory_gib()
    features = [name for name in CPU_FEATURES if name in cpu_flags()]
    findings = [
        Finding(name="autoseg", value=__version__),
        Finding(name="Python", value=f"{platform.python_version()} at {sys.executable}"),
        *(Finding(name=package, value=_version(package)) for package in PACKAGES),
        Finding(
            name="processor",
            value=f"{machine.cores} cores; {', '.join(features) or 'none of the usual extensions'}",
            advice=None
            if machine.bf16 or machine.gpu_name
            else "This processor does not multiply bfloat16 quickly, so training on it takes "
            "about twice as long.",
        ),
        Finding(
            name="memory",
            value=f"{free_gib:.1f} of {machine.memory_gib:.1f} GiB free",
            advice=None
            if free_gib > LITTLE_MEMORY_GIB
            else "Close other programs, or prepare with --workers 1.",
        ),
        Finding(
            name="disk",
            value=f"{free_disk_gib:.1f} GiB free in {folder.resolve()}",
            advice=None
            if free_disk_gib > FEW_DISK_GIB
            else "Prepared scans may need more; choose another disk with --work.",
        ),
    ]
    return findings + _gpu_findings(machine.gpu_name, machine.gpu_memory_gib)


def _gpu_findings(gpu_name: str | None, memory_gib: float) -> list[Finding]:
    import torch

    cuda = torch.version.cuda
    build = f"CUDA {cuda}" if cuda else "without CUDA"
    if gpu_name is None:
        advice = "There is no NVIDIA GPU, so plans are made for the CPU. Training takes hours."
        return [Finding(name="GPU", value=f"none; torch is built {build}", advice=advice)]
    driver = _driver_version()
    findings = [Finding(name="GPU", value=f"{gpu_name}, {memory_gib:g} GiB, driver {driver}")]
    if cuda is None:
        advice = "Install a torch with CUDA: pip install --force-reinstall torch"
        return [*findings, Finding(name="CUDA", value="torch has none", advice=advice)]
    if not torch.cuda.is_available():
        needed = SMALLEST_DRIVER.get(int(cuda.split(".")[0]))
        update = f"Update the driver to {needed} or newer" if needed else "Update the driver"
        advice = f"torch cannot use the GPU. {update}; in a container, run it with --gpus all."
        return [*findings, Finding(name="CUDA", value=build, advice=advice)]
    bf16 = torch.cuda.is_bf16_supported()
    advice_bf16 = None if bf16 else "This GPU is older than Ampere: training runs in float32."
    return [
        *findings,
        Finding(name="CUDA", value=build),
        Finding(name="bfloat16", value="yes" if bf16 else "no", advice=advice_bf16),
    ]


def _driver_version() -> str:
    answer = subprocess.run(
        ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    return answer.stdout.strip().splitlines()[0] if answer.stdout.strip() else "unknown"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"

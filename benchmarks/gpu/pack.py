"""What the benchmark needs on a machine with torch, in one folder.

    python -m benchmarks.gpu.pack FOLDER DATASET

FOLDER gets wheels, of packages that autoseg needs and of nnU-Net v2, and a work folder of the
dataset, planned for a GPU of 80 GB and prepared, which does without the dataset's files. Large ones
are left out: an image with torch is expected to have scipy, safetensors, scikit-image, matplotlib
and jinja2, and for nnU-Net scikit-learn, pandas, seaborn, einops, requests and tqdm.
"""

import argparse
import subprocess
import sys
from pathlib import Path

from autoseg.machine import available_cores
from autoseg.pipeline.plan import PlanJob, plan_dataset
from autoseg.pipeline.prepare import Resources, prepare
from autoseg.work_folder import WorkFolder

MOST_MIB = 60
OURS = (
    "annotated-types", "anyio", "blosc2", "certifi", "connected-components-3d", "edt", "fastremap",
    "fill-voids", "h11", "httpcore", "httpx", "idna", "msgpack", "ndindex", "nibabel", "numexpr",
    "pydantic==2.14.4", "pydantic-core==2.50.5", "rich", "threadpoolctl",
    "typing-extensions", "typing-inspection",
)  # fmt: skip
PEER = (  # pure Python, some of it as source alone
    "nnunetv2==2.8.1", "dynamic-network-architectures==0.4.4", "acvl-utils==0.2.6",
    "batchgenerators==0.25.5", "batchgeneratorsv2==0.3.6",
)  # fmt: skip
PLATFORMS = [f"--platform=manylinux_2_{minor}_x86_64" for minor in (28, 27, 24, 17)]
PLATFORMS += ["--platform=manylinux2014_x86_64"]
AWAY = "dataset_that_is_away"


def make_work(dataset: Path, work: WorkFolder, target: str, rules: str | None = None) -> None:
    """Plan and prepare a dataset, and forget where it lies."""
    job = PlanJob(dataset=dataset, work=work.root, target=target, rules=rules)
    plan_dataset(job, available_cores())
    prepare(work, None, [], Resources(available_cores()))
    work.save_state(work.state().model_copy(update={"dataset": AWAY}))


def fetch_wheels(folder: Path) -> None:
    pip = [sys.executable, "-m", "pip"]
    only = ["--no-deps", "--only-binary=:all:", "--python-version=3.12", "--implementation=cp"]
    ours = [*pip, "download", "-q", *only, *PLATFORMS, "-d", str(folder / "ours"), *OURS]
    subprocess.run(ours, check=True)
    subprocess.run(
        [*pip, "wheel", "-q", "--no-deps", "-w", str(folder / "peer"), *PEER], check=True
    )
    compiled = [p.name for p in (folder / "peer").iterdir() if not p.name.endswith("-any.whl")]
    assert not compiled, f"not pure Python: {compiled}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("dataset", type=Path)
    options = parser.parse_args()
    fetch_wheels(options.folder / "wheels")
    make_work(options.dataset, WorkFolder(options.folder / "work"), "gpu:80")
    size = sum(p.stat().st_size for p in options.folder.rglob("*") if p.is_file()) / 2**20
    print(f"{size:.1f} MiB")
    assert size <= MOST_MIB, f"larger than {MOST_MIB} MiB"


if __name__ == "__main__":
    main()

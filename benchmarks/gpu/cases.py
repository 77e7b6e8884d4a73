"""Made-up data that other parts need: CT cases to train on, a scan to predict, and, where no pack
is given, a work folder of made-up scans."""

import itertools
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

from autoseg.dataset.synthetic import write_dataset
from autoseg.machine import available_cores
from autoseg.work_folder import WorkFolder
from benchmarks.gpu.pack import make_work
from benchmarks.gpu.part import Bench
from benchmarks.input_path import Scans, make_case, make_image

CT = Scans(6, 1, (256, 400, 400))
SMALL_CT = Scans(3, 1, (24, 32, 32))
SCAN_VOX, SMALL_SCAN_VOX = (300, 512, 512), (20, 24, 24)


def measure(bench: Bench) -> None:
    if not bench.pack.exists():
        write_dataset(bench.scratch / "dataset", 10)
        make_work(bench.scratch / "dataset", WorkFolder(bench.pack / "work"), "cpu", "cpu")
        make_narrow(WorkFolder(bench.pack / "work"))
    scans = SMALL_CT if bench.small else CT
    ct_cases(bench).mkdir()
    if bench.small:
        for number in range(scans.count):
            make_case(ct_cases(bench), scans, number)
        save_scan(bench.scratch, SMALL_SCAN_VOX)
        return
    with ProcessPoolExecutor(min(available_cores(), scans.count + 1)) as pool:
        saved = pool.submit(save_scan, bench.scratch, SCAN_VOX)
        folders = itertools.repeat(ct_cases(bench))
        list(pool.map(make_case, folders, itertools.repeat(scans), range(scans.count)))
        saved.result()


def make_narrow(work: WorkFolder) -> None:
    """Leave networks of the plan 4 features at most, for a CPU that has no time."""
    plan = work.plan(None)
    own = plan.configuration(None)
    stages = tuple(s.model_copy(update={"features": 4}) for s in own.model.network.stages)
    network = own.model.network.model_copy(update={"stages": stages})
    model = own.model.model_copy(update={"network": network})
    configurations = plan.configurations | {own.name: own.model_copy(update={"model": model})}
    work.save_plan(plan.model_copy(update={"configurations": configurations}))


def ct_cases(bench: Bench) -> Path:
    """The folder of prepared CT cases."""
    return bench.scratch / "ct"


def scan_path(scratch: Path) -> Path:
    """An image [channel, z, y, x] to predict."""
    return scratch / "scan.npy"


def save_scan(scratch: Path, shape_vox: tuple[int, ...]) -> None:
    np.save(scan_path(scratch), make_image((1, *shape_vox), 100))

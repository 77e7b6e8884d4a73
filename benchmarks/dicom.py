"""How long DICOM takes to read and to write, and how much memory.

A CT series of 512x512x300 is made, read by autoseg, and decoded by pydicom alone; then a mask of 25
classes is written as SEG by autoseg, and by highdicom. Each is measured in a process of its own:
processor time (user and system) and the peak of resident memory.

    python -m benchmarks.dicom [--slices 300] [--result FILE]
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from scipy.ndimage import zoom

from autoseg.images.dicom.codes import codes_of
from autoseg.images.dicom.derived import Findings, segments_of
from autoseg.images.dicom.survey import survey_dicom
from autoseg.images.dicom.write_contours import write_rtstruct
from autoseg.images.dicom.write_seg import write_seg
from autoseg.images.volume import read_image
from autoseg.records import save_json
from tests.dicom_series import Series, write_series

CLASSES = 25
REPEATS = {"decode": 3, "read": 3}  # of the others one run will do
LIMIT_S = 180  # by the clock, after which highdicom's writer is given up
SIZE = 512
RESULT = Path(__file__).parent / "results" / "dicom.json"
TASKS = ("decode", "read", "write_seg", "write_labelmap", "write_rtstruct", "highdicom")


def make(folder: Path, slices: int) -> None:
    """A series, and a mask of round pieces of all classes beside it."""
    rng = np.random.default_rng(0)
    noise = rng.integers(-50, 50, (slices, SIZE, SIZE)).astype(np.int16)
    write_series(folder / "series", Series(noise, spacing_mm=(1.0, 0.8, 0.8)))
    coarse = rng.integers(0, 3 * CLASSES, (10, 16, 16)).astype(np.uint8)
    labels = zoom(coarse, (slices / 10, SIZE / 16, SIZE / 16), order=0)
    labels[labels > CLASSES] = 0
    np.save(folder / "labels.npy", labels)


def run(task: str, folder: Path) -> None:
    if task == "decode":
        _decode(folder / "series")
    elif task == "read":
        [volume] = survey_dicom([folder / "series"]).volumes
        read_image(volume.path)
    elif task == "highdicom":
        _highdicom(folder)
    else:
        findings, path = _findings(folder), folder / f"{task}.dcm"
        if task == "write_rtstruct":
            write_rtstruct(path, findings)
        else:
            write_seg(path, findings, "binary" if task == "write_seg" else "labelmap")


def _decode(folder: Path) -> None:
    """What decoding alone takes: files read and turned into measured values."""
    from pydicom import dcmread

    planes = []
    for path in sorted(folder.iterdir()):
        data = dcmread(path)
        planes.append(data.pixel_array.astype(np.float32) * data.RescaleSlope)
    np.stack(planes)


def _findings(folder: Path) -> Findings:
    [volume] = survey_dicom([folder / "series"]).volumes
    names = [f"class {number}" for number in range(1, CLASSES + 1)]
    segments = segments_of(range(1, CLASSES + 1), names, [codes_of(name) for name in names])
    labels = np.load(folder / "labels.npy")
    return Findings(volume.stack, labels, segments, ("scan", "model"))


def _highdicom(folder: Path) -> None:
    """The same SEG by highdicom's own writer."""
    import highdicom
    from pydicom import dcmread
    from pydicom.sr.codedict import codes

    found = _findings(folder)
    sources = [dcmread(one.instance.path) for one in found.stack.present]
    described = [
        highdicom.seg.SegmentDescription(
            segment.number, segment.name, codes.SCT.Organ, codes.SCT.Liver, "MANUAL"
        )
        for segment in found.segments
    ]
    made = highdicom.seg.Segmentation(
        sources, found.labels, "BINARY", described, "1.2.9", 1, "1.2.9.1", 1, "a", "b", "c", "d"
    )
    made.save_as(folder / "highdicom.dcm")


def measure(task: str, folder: Path) -> dict[str, float] | str:
    """The least of some runs, each without the time that starting and importing takes."""
    runs: list[dict[str, float]] = []
    command = [sys.executable, "-m", "benchmarks.dicom", "--task", task, str(folder)]
    for _ in range(REPEATS.get(task, 1)):
        limit_s = LIMIT_S if task == "highdicom" else None
        try:
            done = subprocess.run(
                command, check=True, capture_output=True, text=True, timeout=limit_s
            )
        except subprocess.TimeoutExpired:
            return f"given up after {LIMIT_S} s"
        runs.append(json.loads(done.stdout))
    return min(runs, key=lambda one: one["processor_s"])


def _measured(task: str, folder: Path) -> dict[str, float]:
    import pydicom  # not counted
    import pydicom.pixels  # noqa: F401
    import skimage.color
    import skimage.measure  # noqa: F401

    started, before = time.perf_counter(), time.process_time()
    run(task, folder)
    return {
        "processor_s": round(time.process_time() - before, 2),
        "wall_s": round(time.perf_counter() - started, 2),
        "peak_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slices", type=int, default=300)
    parser.add_argument("--result", type=Path, default=RESULT)
    parser.add_argument("--task", nargs=2, metavar=("TASK", "FOLDER"))
    options = parser.parse_args()
    if options.task:
        print(json.dumps(_measured(options.task[0], Path(options.task[1]))))
        return
    with tempfile.TemporaryDirectory() as name:
        # In a process of its own: those that are measured would inherit its peak of memory.
        call = f"from benchmarks.dicom import *; make(Path({name!r}), {options.slices})"
        subprocess.run([sys.executable, "-c", call], check=True)
        results = {task: measure(task, Path(name)) for task in TASKS}
        sizes = {p.name: p.stat().st_size for p in Path(name).glob("*.dcm")}
    decode, read = results["decode"], results["read"]
    assert not isinstance(decode, str) and not isinstance(read, str)
    ratio = read["processor_s"] / decode["processor_s"]
    record = {
        "shape_vox": [options.slices, SIZE, SIZE],
        "classes": CLASSES,
        "read_over_decode": round(ratio, 2),
        **results,
        "bytes": sizes,
    }
    save_json(record, options.result)
    print(json.dumps(record, indent=2))


if __name__ == "__main__":
    main()

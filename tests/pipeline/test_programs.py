import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np

import autoseg
from autoseg.training.schedule import Budget

QUICK = ("training.iterations_per_epoch=2", "training.validation_iterations=1",
         "inference.mirror_axes=[]", "inference.step_fraction=1")  # fmt: skip


def test_one_import_does_the_whole_job(synthetic_dataset: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    outcome = autoseg.plan(synthetic_dataset, work, workers=1, target="cpu", settings=QUICK)
    assert outcome.plan.recommended == "3d_fullres"
    assert autoseg.prepare(work) == 6
    result = autoseg.train(0, work, budget=Budget(iterations=2))
    assert result.finished
    model = result.folder / "model.safetensors"
    scan = synthetic_dataset / "imagesTr" / "case_000_0000.nii.gz"
    autoseg.predict([scan], tmp_path / "out", [model])
    mask = nib.load(tmp_path / "out" / "case_000.nii.gz")
    np.testing.assert_array_equal(mask.affine, nib.load(scan).affine)
    labels = autoseg.Predictor.load([model])(autoseg.read_image(scan)).labels
    np.testing.assert_array_equal(labels.array.T, np.asarray(mask.dataobj))
    autoseg.write_labels(tmp_path / "own.nii.gz", labels)
    scores = autoseg.evaluate(tmp_path / "out", synthetic_dataset / "labelsTr", workers=1)
    assert set(scores.cases) == {"case_000"}


def test_a_script_needs_no_guard_though_processes_are_started(
    synthetic_dataset: Path, tmp_path: Path
) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import autoseg\n"
        f"autoseg.plan({str(synthetic_dataset)!r}, 'work', workers=2, target='cpu')\n"
        "print(autoseg.prepare('work'), 'prepared')\n"
    )
    command = [sys.executable, script.name]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "6 prepared\n" and "Error" not in done.stderr


def test_a_name_is_loaded_when_it_is_used_first() -> None:
    code = (
        "import sys, autoseg; heavy = {'torch', 'numpy', 'pydantic'}; "
        "assert not heavy & set(sys.modules); "
        "autoseg.read_image; assert 'torch' not in sys.modules; "
        "autoseg.Predictor; assert 'torch' in sys.modules; "
        "assert all(getattr(autoseg, name) is not None for name in dir(autoseg))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

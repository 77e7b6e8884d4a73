"""The README's commands do what it says: they are run as written, only shorter."""

import re
import shlex
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from autoseg.cli import main
from autoseg.dataset.synthetic import make_scan, write_scan
from tests.inference.model_files import small_configuration, write_model

README = Path(__file__).parent.parent / "README.md"


def readme_commands() -> list[str]:
    blocks = re.findall(r"```sh\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    return [line for line in lines if line.startswith("autoseg ")]


def test_the_commands_of_the_readme_work_in_order(
    tmp_path: Path, synthetic_dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("dataset").symlink_to(synthetic_dataset)
    for index in range(2):
        scan = make_scan(50 + index, (30, 28, 12))
        write_scan(Path(f"in/scan_{index}.nii.gz"), scan.image, scan)
        write_scan(Path(f"references/scan_{index}.nii.gz"), scan.labels, scan)
    commands = readme_commands()
    assert len(commands) >= 7
    for command in commands:
        words = shlex.split(re.sub(r"--minutes \d+", "--minutes 0.05", command))[1:]
        expanded = [
            str(match)
            for word in words
            for match in (sorted(Path().glob(word)) if "*" in word else [word])
        ]
        assert main(expanded) == 0, command
    for name in ("scan_0", "scan_1"):
        for folder in ("out", "more"):
            assert nib.load(f"{folder}/{name}.nii.gz").shape == (30, 28, 12)


def test_the_program_of_the_guide_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    guide = (README.parent / "docs" / "prediction.md").read_text(encoding="utf-8")
    (program,) = re.findall(r"```python\n(.*?)```", guide, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    write_model(Path("model.safetensors"), small_configuration())
    array = np.random.default_rng(0).normal(100, 20, (11, 24, 20)).astype(np.float32)
    sitk.WriteImage(sitk.GetImageFromArray(array), "scan.nrrd")
    exec(program, {"array": array})
    mask, scan = sitk.ReadImage("mask.nrrd"), sitk.ReadImage("scan.nrrd")
    assert mask.GetSize() == scan.GetSize()
    assert mask.GetDirection() == scan.GetDirection()

"""The README's commands do what it says: they are run as written, only shorter."""

import re
import shlex
from pathlib import Path

import nibabel as nib
import pytest

from autoseg.cli import main
from autoseg.synthetic import make_scan, write_scan

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

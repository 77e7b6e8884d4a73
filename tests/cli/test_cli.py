import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from autoseg.cli import main

VERBS = [
    "plan", "explain", "prepare", "train", "predict", "evaluate", "export", "doctor", "demo",
]  # fmt: skip


def test_help_names_every_verb_in_half_a_second() -> None:
    times = []
    for _ in range(3):
        started = time.perf_counter()
        answer = subprocess.run(
            [sys.executable, "-m", "autoseg", "--help"], capture_output=True, text=True, check=True
        )
        times.append(time.perf_counter() - started)
    assert all(verb in answer.stdout for verb in VERBS)
    assert min(times) < 0.5


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_explains_itself_without_heavy_imports(
    verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main([verb, "--help"])
    assert end.value.code == 0
    assert f"autoseg {verb}" in capsys.readouterr().out
    script = f"""
import sys, autoseg.cli
try:
    autoseg.cli.main(["{verb}", "--help"])
except SystemExit:
    pass
assert not {{"torch", "numpy", "pydantic", "rich"}} & sys.modules.keys()
"""
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)


def test_wrong_usage_ends_with_2() -> None:
    for arguments in ([], ["plan"], ["train", "--epochs", "1", "--minutes", "1"], ["nonsense"]):
        with pytest.raises(SystemExit) as end:
            main(arguments)
        assert end.value.code == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["plan", "nowhere"], "nowhere: there is no such dataset"),
        (["train"], "nothing is planned here yet. Run `autoseg plan DATASET` first"),
        (["predict", "in", "out"], "nothing is planned here yet"),
        (["predict", "in", "out", "--model", "m.safetensors"], "model file does not exist"),
        (["predict", "in", "out", "--model", __file__], "not a readable model file"),
        (["plan", ".", "--for", "tpu"], "this folder is empty"),
        (["demo", "/", "--minutes", "1"], "this folder holds other files"),
        (["explain"], "nothing is planned here yet"),
        (["evaluate", "a", "b"], "a: there is no such folder"),
    ],
)
def test_failures_end_with_1_and_one_message(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 1
    assert message in capsys.readouterr().err
    assert os.listdir(tmp_path) == []  # noqa: PTH208


def test_plan_and_explain_say_what_and_why(
    tmp_path: Path, synthetic_dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    work = ["--work", str(tmp_path / "work")]
    assert main(["plan", str(synthetic_dataset), "--for", "gpu:24", *work, "--workers", "1"]) == 0
    screen = capsys.readouterr().out
    assert "6 cases" in screen
    assert "Because:" in screen
    assert main(["explain", "patch_size_vox", *work]) == 0
    assert "rule patch_size.residual_gpu" in capsys.readouterr().out
    assert main(["explain", "--json", *work]) == 0
    decisions = json.loads(capsys.readouterr().out)
    assert {"name", "value", "because", "rule_id", "facts", "source"} <= set(decisions[0])
    assert main(["explain", "patch_size", *work]) == 1
    assert "or patch_size_vox" in capsys.readouterr().err


def test_a_work_folder_belongs_to_one_dataset(
    tmp_path: Path, synthetic_dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    work = ["--work", str(tmp_path / "work"), "--workers", "1"]
    assert main(["plan", str(synthetic_dataset), *work]) == 0
    other = tmp_path / "other"
    other.symlink_to(synthetic_dataset)
    assert main(["plan", str(other), *work]) == 0  # the same folder by another name
    copied = tmp_path / "copied"
    copied.mkdir()
    for part in synthetic_dataset.iterdir():
        (copied / part.name).symlink_to(part)
    assert main(["plan", str(copied), *work]) == 1
    assert "belongs to the dataset" in capsys.readouterr().err

"""What can be typed, and how a mistake ends; what each verb does is tested with its stage.

Covers: arguments, environment, interruption, options, progress, screens, verbs.check, verbs.demo,
verbs.doctor, verbs.evaluate, verbs.explain, verbs.export, verbs.import_, verbs.plan, verbs.predict,
verbs.prepare, verbs.report, verbs.select, verbs.train.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from autoseg.cli import main, verbs
from autoseg.cli.arguments import make_parser
from autoseg.cli.screens import check_screen
from autoseg.dataset.problems import Problem
from autoseg.inspection.consistency import CheckReport

HEAVY = {"torch", "numpy", "pydantic", "rich"}
SECONDS, ATTEMPTS = 0.25, 3

# For each verb what goes wrong at once, its exit code, and the way out that is named.
MISTAKES = {
    "check": ("nowhere", 1, "nowhere: there is no such dataset. Give the path to its folder"),
    "plan": ("nowhere", 1, "nowhere: there is no such dataset. Give the path to its folder"),
    "explain": ("", 1, "nothing is planned here yet. Run `autoseg plan DATASET` first"),
    "prepare": ("", 1, "nothing is planned here yet. Run `autoseg plan DATASET` first"),
    "train": ("", 1, "nothing is planned here yet. Run `autoseg plan DATASET` first"),
    "predict": ("in out", 1, "nothing is planned here yet. Run `autoseg plan DATASET` first"),
    "evaluate": ("a b", 1, "a: there is no such file or folder. Give one with masks"),
    "report": ("", 1, "nothing is planned here yet. Run `autoseg plan DATASET` first"),
    "select": ("", 1, "nothing is planned here yet. Run `autoseg plan DATASET` first"),
    "import": (
        "nnunet a --out b",
        1,
        "no such folder or zip file. Give a folder of nnUNet_results",
    ),
    "export": (
        f"nnunet {__file__} --out b",
        1,
        "An autoseg model is a .safetensors file written by",
    ),
    "doctor": ("--json=all", 2, "usage: autoseg doctor [-h] [--json]"),
    "demo": ("/", 1, "this folder holds other files, which the demo would replace. Give it a"),
}


def parsers() -> dict[str, argparse.ArgumentParser]:
    """The parser of each verb that can be typed."""
    (table,) = (
        action
        for action in make_parser()._actions
        if isinstance(action, argparse._SubParsersAction)
    )
    return dict(table.choices)


VERBS = list(parsers())


def quickest(*words: str) -> tuple[float, subprocess.CompletedProcess[str]]:
    """The outcome with the modules that it imports on stderr, and processor seconds at best."""
    times = []
    for _ in range(ATTEMPTS):
        started = processor_seconds()
        done = subprocess.run(
            [sys.executable, "-X", "importtime", "-m", "autoseg", *words],
            capture_output=True, text=True, check=True, env=os.environ | {"COLUMNS": "1000"},
        )  # fmt: skip
        times.append(processor_seconds() - started)
        if times[-1] < SECONDS:
            break
    return min(times), done


def processor_seconds() -> float:
    """Of all processes that ended so far: a busy machine does not change it."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return ended.ru_utime + ended.ru_stime


def imported(done: subprocess.CompletedProcess[str]) -> set[str]:
    return {line.rpartition("|")[2].strip().split(".")[0] for line in done.stderr.splitlines()}


def test_help_names_every_verb_in_a_quarter_of_a_second() -> None:
    seconds, done = quickest("--help")
    assert all(verb in done.stdout.split() for verb in VERBS)
    assert seconds < SECONDS


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_explains_itself_quickly_without_heavy_imports(verb: str) -> None:
    seconds, done = quickest(verb, "--help")
    assert done.stdout.startswith(f"usage: autoseg {verb} ")
    assert (parsers()[verb].description or "no description") in done.stdout
    assert "argparse" in imported(done)
    assert not HEAVY & imported(done)
    assert seconds < SECONDS


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_names_the_way_out_of_a_mistake(
    verb: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments, code, way_out = MISTAKES[verb]
    try:
        ended = main([verb, *arguments.split()])
    except SystemExit as end:
        ended = int(str(end.code))
    assert ended == code
    assert way_out in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_every_module_of_a_verb_is_in_the_list() -> None:
    modules = {path.stem for path in Path(verbs.__file__).parent.glob("*.py")} - {"__init__"}
    assert sorted(name.rstrip("_") for name in modules) == sorted(VERBS)


def test_the_readme_has_every_verb() -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    assert [verb for verb in VERBS if f"autoseg {verb}" not in readme] == []


def test_wrong_usage_ends_with_2() -> None:
    for arguments in ([], ["plan"], ["train", "--epochs", "1", "--minutes", "1"], ["nonsense"]):
        with pytest.raises(SystemExit) as end:
            main(arguments)
        assert end.value.code == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["predict", "in", "out", "--model", "m.safetensors"], "model file does not exist"),
        (["predict", "in", "out", "--model", __file__], "not a readable model file"),
        (["plan", ".", "--for", "tpu"], "this folder is empty"),
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
    assert list(tmp_path.iterdir()) == []


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
    copied = shutil.copytree(synthetic_dataset, tmp_path / "copied")
    assert main(["plan", str(copied), *work]) == 0  # the same contents in another place
    (copied / "imagesTr" / "case_005_0000.nii.gz").unlink()
    (copied / "labelsTr" / "case_005.nii.gz").unlink()
    another = copied.rename(tmp_path / "another")
    assert main(["plan", str(another), *work]) == 1
    told = capsys.readouterr().err
    assert "belongs to the dataset" in told and "missing here (1): case_005" in told


def test_check_shows_what_many_cases_share_in_one_line() -> None:
    turned = {"kind": "orientation_tag", "what": "has a tag.", "fix": "Save it anew."}
    problems = tuple(
        Problem(case_id=case, file=f"/data/{case}.jpg", **turned) for case in ("a", "b", "c")
    )
    screen = check_screen(CheckReport(dataset="/data", cases=3, problems=problems))
    assert screen.count("has a tag.") == 1
    assert "a and 2 more" in screen
    assert "3 warnings" in screen

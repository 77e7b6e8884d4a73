from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from autoseg.dataset.dataset import Case, ChannelSource
from autoseg.dataset.labels import LabelScheme
from autoseg.dataset.reading import read_case
from autoseg.images.in_memory import volume_of_array
from autoseg.images.volume import Volume, read_image, write_image, write_labels
from autoseg.inference.maps import RequestedMaps
from autoseg.inference.predictor import Predictor
from autoseg.pipeline.calibration import HeldOutMask, judge_mask, learned_quality
from tests.inference.model_files import small_configuration, write_model

SPACING_MM = (2.0, 1.0, 1.0)
LABELS = LabelScheme(values=(0, 1), names=("background", "class_1"))
SHAPE = (12, 24, 24)


def brightness(patches: torch.Tensor) -> torch.Tensor:
    """A network that takes what is bright for the class: its logit is 2 x - 2.5."""
    return torch.cat((torch.zeros_like(patches), 2 * patches - 2.5), dim=1)


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    path = tmp_path_factory.mktemp("model") / "a.safetensors"
    configuration = small_configuration(spacing_mm=SPACING_MM, mirrored=())
    loaded = Predictor.load([write_model(path, configuration, classes=2)], "cpu", "fp32", "torch")
    (group,) = loaded.groups
    ensemble = replace(group.ensemble, runners=(brightness,))
    return replace(loaded, groups=(replace(group, ensemble=ensemble),))


def bright_ball(seed: int, noise: float) -> tuple[Volume, Volume]:
    """A scan with a ball of 3 above 0, and the ball."""
    rng = np.random.default_rng(seed)
    z, y, x = np.indices(SHAPE) - np.array(SHAPE).reshape(3, 1, 1, 1) / 2
    ball = (2 * z) ** 2 + y**2 + x**2 < rng.uniform(7, 9) ** 2
    scan = 3.0 * ball + noise * rng.standard_normal(SHAPE)
    return (
        volume_of_array(scan.astype(np.float32), spacing_mm=SPACING_MM),
        replace(
            volume_of_array(scan.astype(np.float32), spacing_mm=SPACING_MM),
            array=ball.astype(np.uint8),
        ),
    )


def write_case(folder: Path, seed: int) -> Case:
    scan, ball = bright_ball(seed, noise=0.3)
    image, label = folder / f"scan_{seed}.nii.gz", folder / f"label_{seed}.nii.gz"
    write_image(image, replace(scan, array=scan.array[0]))
    write_labels(label, ball)
    return Case(
        case_id=f"scan_{seed}",
        patient_id=f"scan_{seed}",
        channels=(ChannelSource(image),),
        label=label,
    )


@pytest.fixture(scope="module")
def held_out(tmp_path_factory: pytest.TempPathFactory, predictor: Predictor) -> list[HeldOutMask]:
    """Cases, and masks that were predicted before."""
    folder = tmp_path_factory.mktemp("cases")
    masks = []
    for case in [write_case(folder, seed) for seed in range(24)]:
        asked = RequestedMaps(confidence=True)
        found = predictor(read_image(case.files()[0]), requested=asked)
        path = folder / "masks" / f"{case.case_id}.nii.gz"
        write_labels(path, found.labels)
        soft = {c.name: c.expected_dice for c in found.confidence or ()}
        masks.append(HeldOutMask(case, path, soft))
    return masks


def test_estimates_rank_new_scans_as_their_true_dice_does(
    predictor: Predictor, held_out: list[HeldOutMask]
) -> None:
    model = learned_quality({0: held_out[:12], 1: held_out[12:]}, LABELS, lambda fold: predictor)
    assert model is not None and model.folds == 2
    (quality,) = model.classes
    assert quality.cases == 24 and quality.present_share == 1
    noises = np.linspace(0.3, 3, 12)
    new = [judge_mask(predictor, *bright_ball(100 + i, n), 0, True) for i, n in enumerate(noises)]
    true = [mask.dice["class_1"] for mask in new]
    soft = np.array([mask.expected_dice["class_1"] for mask in new], np.float64)
    assert spearmanr(quality.estimate(soft), true).statistic > 0.6


def test_a_mask_is_compared_with_its_reference(
    predictor: Predictor, held_out: list[HeldOutMask]
) -> None:
    scan, ball = read_case(held_out[0].case)
    judged = judge_mask(predictor, scan, ball, 3, False)
    mask, truth = predictor(scan).labels.array == 1, ball.array == 1
    dice = 2 * (mask & truth).sum() / (mask.sum() + truth.sum())
    assert judged.dice["class_1"] == pytest.approx(dice)
    assert (judged.fold, judged.is_spoilt, judged.has_class) == (3, False, {"class_1": True})


def test_too_few_cases_teach_nothing_and_no_model_is_loaded(held_out: list[HeldOutMask]) -> None:
    def loads(fold: int) -> Predictor:
        raise AssertionError

    assert learned_quality({0: held_out[:4], 1: []}, LABELS, loads) is None


def test_a_predictor_tells_what_it_expects_only_where_that_was_learned(
    predictor: Predictor, held_out: list[HeldOutMask]
) -> None:
    model = learned_quality({0: held_out}, LABELS, lambda fold: predictor)
    scan, _ = bright_ball(7, noise=3)
    assert predictor(scan).provenance.quality is None
    told = replace(predictor, quality=model)(scan).provenance
    assert told.quality is not None
    assert told.quality.against_usual is not None and told.quality.against_usual < 1
    assert any("class_1 is likely to have a Dice of only" in w for w in told.warnings)

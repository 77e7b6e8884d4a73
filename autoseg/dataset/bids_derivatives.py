"""Masks as BIDS derivatives: `_dseg.nii.gz` with its table and its sidecar (BIDS 1.10)."""

import re
from pathlib import Path

from autoseg.dataset.dataset import Case
from autoseg.dataset.labels import LabelScheme
from autoseg.dataset.layouts.bids import NOT_OF_A_CASE, entities_of
from autoseg.images.volume import Volume, write_labels
from autoseg.records import replacing, save_json
from autoseg.version import __version__

BIDS_VERSION = "1.10.0"
DATA_TYPE = "anat"
SHOWS = f"Segmentations by neural networks (autoseg {__version__}), which nobody has corrected"


def write_derivative(root: Path, case: Case, mask: Volume, labels: LabelScheme) -> Path:
    """Write a mask into a folder of derivatives, and say what made it; where the mask is.

    A scan that is not named as BIDS has it gets a subject of its case's letters and digits.
    """
    entities = _entities(case)
    folder = root / f"sub-{entities['sub']}"
    if "ses" in entities:
        folder /= f"ses-{entities['ses']}"
    stem = "_".join([*(f"{k}-{v}" for k, v in entities.items()), "desc-autoseg_dseg"])
    path = folder / DATA_TYPE / f"{stem}.nii.gz"
    description = root / "dataset_description.json"
    if not description.is_file():
        save_json(_description(), description)
        with replacing(root / "README") as temporary:
            temporary.write_text(f"{SHOWS}, one for each scan.\n", encoding="utf-8")
    path.parent.mkdir(parents=True, exist_ok=True)
    _write_table(path.with_name(f"{stem}.tsv"), labels)
    sidecar = {
        "Description": SHOWS,
        "Manual": False,
        "SpatialReference": "orig",
        "GeneratedBy": "autoseg",
    }
    save_json(sidecar, path.with_name(f"{stem}.json"))
    write_labels(path, mask)
    return path


def _entities(case: Case) -> dict[str, str]:
    own, _ = entities_of(case.files()[0])
    if "sub" not in own:
        return {"sub": re.sub(r"[^A-Za-z0-9]", "", case.case_id) or "scan"}
    return {key: value for key, value in own.items() if key not in NOT_OF_A_CASE}


def _description() -> dict[str, object]:
    return {
        "Name": "autoseg segmentations",
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "autoseg", "Version": __version__}],
    }


def _write_table(path: Path, labels: LabelScheme) -> None:
    """Index and name of each value that a mask can have."""
    if labels.regions:
        named = list(zip(labels.region_order, (r.name for r in labels.regions), strict=True))
        named.insert(0, (labels.values[0], labels.names[0]))
    else:
        named = list(zip(labels.values, labels.names, strict=True))
    lines = ["index\tname", *(f"{value}\t{name}" for value, name in named)]
    with replacing(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")

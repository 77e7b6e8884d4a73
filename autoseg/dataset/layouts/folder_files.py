"""Files of a folder that nothing was made of: none is left aside without a word."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from autoseg.dataset.layouts.naming import LEFT_BY_MACOS, SLICER_ENDING, stem
from autoseg.dataset.problems import Problem
from autoseg.images.formats import file_ending, files_of

SHOWN = 3
OF_SYSTEMS = {"thumbs.db", "desktop.ini"}
SIDECARS = (".json", ".txt", ".bval", ".bvec", ".csv", ".tsv")  # they tell of an image, or of all


def unknown_files(folder: Path) -> list[Problem]:
    """One warning of all that lies in a folder of images, and is neither an image nor of one."""
    if not folder.is_dir():
        return []
    found = sorted(p for p in folder.iterdir() if not _is_of_no_interest(p))
    images = [p for p in found if file_ending(p) and not p.name.startswith(".")]
    beside = {file for image in images for file in files_of(image)}
    names = {stem(image) for image in images}
    unknown = [p for p in found if p not in beside and not _tells_of(p, names)]
    if not unknown:
        return []
    hidden = all(path.name.startswith(".") for path in unknown)
    one, many = "one that is no image by its name", "files and folders that are no images by name"
    if hidden:
        one, many = "a hidden image", "hidden images"
    counted = one if len(unknown) == 1 else f"{len(unknown)} {many}"
    return [
        Problem(
            kind="unused_file",
            case_id=None,
            file=str(folder),
            what=f"holds {counted}: {listed(p.name for p in unknown)}. This is not used.",
            fix="Rename them without the first dot, or remove them."
            if hidden
            else "Save them in a known format and with its ending, or remove them.",
        )
    ]


def unused_labels(folder: Path, files: list[Path], case_ids: set[str]) -> list[Problem]:
    """Labels of which no case is there; one warning for all."""
    if not files:
        return []
    named = f"{files[0].name} is" if len(files) == 1 else f"{len(files)} files are"
    names = "" if len(files) == 1 else f": {listed(file.name for file in files)}"
    like = f", such as {min(case_ids)}" if case_ids else ""
    return [
        Problem(
            kind="unused_file",
            case_id=None,
            file=str(files[0] if len(files) == 1 else folder),
            what=f"{named} not called as any case is{like}{names}.",
            fix="Add their images, or rename or remove them.",
        )
    ]


def listed(names: Iterable[str]) -> str:
    """The first few of some names, and how many more there are."""
    given = list(names)
    more = f" and {len(given) - SHOWN} more" if len(given) > SHOWN else ""
    return ", ".join(given[:SHOWN]) + more


def counted_endings(files: Iterable[Path]) -> str:
    """How many files have which ending, such as `8 images that end in .nii`."""
    counts = Counter(file_ending(file) for file in files)
    return " and ".join(
        f"{count} {'image that ends' if count == 1 else 'images that end'} in {ending}"
        for ending, count in counts.most_common()
    )


def _is_of_no_interest(path: Path) -> bool:
    hidden = path.name.startswith(".") and not file_ending(path)
    return hidden or path.name.startswith(LEFT_BY_MACOS) or path.name.lower() in OF_SYSTEMS


def _tells_of(path: Path, images: set[str]) -> bool:
    """Whether a file only tells of an image: a sidecar, or the notes of a segmentation."""
    name = path.name.lower()
    return name.endswith(SIDECARS) and (
        path.stem in images or path.stem + Path(SLICER_ENDING).stem in images
    )

"""What `select` shows: candidates with scores and time, the choice, and what corrects masks."""

from pathlib import Path

from autoseg.evaluation.selection import ScoredCandidate
from autoseg.evaluation.selection_record import Postprocessing, Selection
from autoseg.postprocessing.sureness import ObjectSureness


def selection_screen(selection: Selection, work: Path) -> str:
    """A line for each candidate, then what was chosen, and why."""
    width = max(len(candidate.name) for candidate in selection.candidates)
    folds = len(selection.folds)
    lines = [
        f"{selection.cases} held-out cases of {selection.patients} patients, "
        f"{folds} {'fold' if folds == 1 else 'folds'}; mean {selection.metric} over classes, "
        "95 % interval, seconds a scan of one model each:"
    ]
    lines += [_candidate_line(candidate, width) for candidate in selection.candidates]
    chosen = " + ".join(selection.recipe.members)
    lines.append(f"Chosen: {chosen}, since {selection.because}.")
    lines += _postprocessing_lines(selection.postprocessing)
    lines += _sureness_lines(selection.sureness)
    where = "" if work == Path("autoseg_work") else f" --work {work}"
    lines.append(
        f"autoseg predict IN OUT{where} follows {work / 'selection.json'}; autoseg export "
        f"model{where} packs it into one file."
    )
    return "\n".join(lines)


def _candidate_line(candidate: ScoredCandidate, width: int) -> str:
    interval = candidate.interval
    return (
        f"  {candidate.name:<{width}}  {candidate.score:.4f}  ({interval.low:.4f} to "
        f"{interval.high:.4f})  {candidate.seconds:.2f} s"
    )


def _postprocessing_lines(measured: Postprocessing) -> list[str]:
    lines = [f"Post-processing: {measured.because}."]
    lines += [f"  {step.what}: {step.gain:+.4f}" for step in measured.steps]
    lines += [f"  {sentence}." for sentence in measured.left_off]
    return lines


def _sureness_lines(sureness: ObjectSureness | None) -> list[str]:
    if sureness is None:
        return []
    return [
        f"Objects of {one.name}: {one.right_share:.0%} of {one.objects:,} held-out ones were "
        f"right; their probability is off by {one.error:.3f} in the mean, their scores alone by "
        f"{one.error_of_scores:.3f}."
        for one in sureness.classes
    ]

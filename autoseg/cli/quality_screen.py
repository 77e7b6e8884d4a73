"""Which masks to look at first, as a table."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from autoseg.postprocessing.quality import LEAST, DiceEstimate

if TYPE_CHECKING:  # torch takes seconds to import
    from autoseg.inference.provenance import Provenance

MASKS_SHOWN = 5
CLASSES_SHOWN = 6


def quality_screen(done: Sequence["Provenance"]) -> str:
    """Likely Dice by class of the most doubtful masks, the worst first."""
    ranked = most_doubtful_first(done)
    names = _names(ranked[:MASKS_SHOWN])
    rows = [["", *names]]
    for provenance in ranked[:MASKS_SHOWN]:
        assert provenance.quality is not None
        classes = provenance.quality.classes
        rows.append([provenance.case_id, *(_told(classes.get(name)) for name in names)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  "
        + "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    count = f"the {MASKS_SHOWN} most doubtful of {len(ranked)} masks"
    which = count if len(ranked) > MASKS_SHOWN else "the most doubtful mask first"
    return "\n".join([f"Likely Dice, and where 9 of 10 lie; {which}:", *lines])


def most_doubtful_first(done: Sequence["Provenance"]) -> list["Provenance"]:
    """Masks of which something is expected, by the least share of the usual Dice of a class."""

    def share(provenance: "Provenance") -> float:
        quality = provenance.quality
        if quality is None or quality.against_usual is None:
            return float("inf")
        return quality.against_usual

    return sorted((p for p in done if p.quality is not None), key=share)


def _names(shown: Sequence["Provenance"]) -> list[str]:
    """Classes to show: those that fall shortest of what is usual, in any of these masks."""
    shares: dict[str, float] = {}
    for provenance in shown:
        assert provenance.quality is not None
        for name, estimate in provenance.quality.classes.items():
            share = (estimate.dice or 0) / max(estimate.usual, LEAST)
            shares[name] = min(shares.get(name, share), share)
    worst = sorted(shares, key=shares.__getitem__)[:CLASSES_SHOWN]
    return [name for name in shares if name in worst]


def _told(estimate: DiceEstimate | None) -> str:
    if estimate is None or estimate.dice is None:
        return "not found"
    return f"{estimate.dice:.2f} ({estimate.low:.2f}-{estimate.high:.2f})"

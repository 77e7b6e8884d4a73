from autoseg.cli.quality_screen import most_doubtful_first, quality_screen
from autoseg.inference.provenance import Provenance
from autoseg.postprocessing.quality import DiceEstimate, MaskQuality


def mask(case_id: str, dice: float | None, known: bool = True) -> Provenance:
    estimate = DiceEstimate(
        dice=dice,
        low=None if dice is None else dice - 0.1,
        high=None if dice is None else dice + 0.05,
        error=0.03,
        usual=0.8,
    )
    quality = MaskQuality(classes={"liver": estimate}, against_usual=(dice or 0) / 0.8)
    return Provenance(
        case_id=case_id,
        scan="",
        models=(),
        autoseg_version="0",
        engine="torch",
        device="cpu",
        precision="fp32",
        mirror_axes=(),
        quality=quality if known else None,
        warnings=(),
    )


def test_the_most_doubtful_come_first_and_those_without_estimate_never() -> None:
    masks = [mask("a", 0.8), mask("b", None), mask("c", 0.4), mask("d", 0.1, known=False)]
    assert [p.case_id for p in most_doubtful_first(masks)] == ["b", "c", "a"]


def test_a_handful_is_shown() -> None:
    screen = quality_screen([mask(f"scan_{i}", 0.9 - i / 10) for i in range(8)])
    head, names, *rows = screen.splitlines()
    assert head == "Likely Dice, and where 9 of 10 lie; the 5 most doubtful of 8 masks:"
    assert names.split() == ["liver"]
    assert [row.split()[0] for row in rows] == [f"scan_{i}" for i in (7, 6, 5, 4, 3)]
    assert rows[0].split(None, 1)[1] == "0.20 (0.10-0.25)"


def test_a_class_that_is_missing_is_told() -> None:
    assert quality_screen([mask("a", None)]).splitlines()[-1].split() == ["a", "not", "found"]

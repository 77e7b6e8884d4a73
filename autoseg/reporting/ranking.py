"""Which cases went best, which worst, and which in between."""

from autoseg.evaluation.evaluation import Evaluation


def mean_dice(evaluation: Evaluation, case_id: str) -> float | None:
    """The mean over the classes that have a Dice in a case; None where none has."""
    values = [scores.get("dice") for scores in evaluation.cases[case_id].values()]
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def telling_cases(evaluation: Evaluation) -> dict[str, str]:
    """The best, the median and the worst case by mean Dice, each with a title that says so."""
    dice = {case_id: mean_dice(evaluation, case_id) for case_id in evaluation.cases}
    known = {case_id: value for case_id, value in dice.items() if value is not None}
    ranked = sorted(known, key=lambda case_id: (-known[case_id], case_id))
    if not ranked:
        return {}
    places = {len(ranked) // 2: "median"} | {len(ranked) - 1: "worst", 0: "best"}
    return {
        ranked[place]: f"{places[place]}: {ranked[place]}, mean Dice {known[ranked[place]]:.3f}"
        for place in sorted(places)
    }

"""How the trainings went: curves of every fold, and what each of them came to."""

from collections.abc import Sequence

from autoseg.reporting.content import ReportContent, TrainedFold
from autoseg.reporting.curves import draw_trainings
from autoseg.reporting.page import Section, fill
from autoseg.reporting.tables import Table, head, number, words

TEMPLATE = """
{% for name, png, rows, changes in trainings %}
<h3>{{ name }}</h3>
{% if png %}{{ figure(png, "losses and patch Dice of the folds of " ~ name, "Loss of training
patches (solid) and of held-out ones (dashed), and Dice of held-out patches, mean over classes.
Random patches say how a training went, and not how good its masks are.") }}{% endif %}
{{ table(rows) }}
{% if changes %}<ul>{% for change in changes %}<li>{{ change }}</li>{% endfor %}</ul>{% endif %}
{% endfor %}
"""


def training_section(content: ReportContent) -> Section | None:
    """Curves and a table for each configuration of which any fold was begun."""
    if not content.folds:
        return None
    names = dict.fromkeys(fold.configuration for fold in content.folds)
    trainings = []
    for name in names:
        folds = [fold for fold in content.folds if fold.configuration == name]
        begun = [fold for fold in folds if fold.epochs]
        png = draw_trainings([(fold.fold, fold.epochs) for fold in begun]) if begun else None
        changes = [f"Fold {fold.fold}: {change}" for fold in folds for change in fold.changes]
        trainings.append((name, png, _table(folds), changes))
    return Section("training", "Training", fill(TEMPLATE, trainings=trainings))


def _table(folds: Sequence[TrainedFold]) -> Table:
    heads = [words("fold"), words("state")]
    heads += [head(text) for text in ("epochs", "iterations", "minutes", "training loss")]
    heads += [head(text) for text in ("held-out loss", "patch Dice")]
    body = []
    for fold in folds:
        last = fold.epochs[-1] if fold.epochs else None
        dice = [] if last is None else [d for d in last.patch_dice.values() if d is not None]
        body.append(
            [
                words(fold.fold),
                words("trained" if fold.model_hash else "not finished"),
                number(len(fold.epochs), ",d"),
                number(None if last is None else last.iteration, ",d"),
                number(None if last is None else last.elapsed_s / 60, ".1f"),
                number(None if last is None else last.train_loss),
                number(None if last is None else last.validation_loss),
                number(sum(dice) / len(dice) if dice else None),
            ]
        )
    return Table(heads, body, sorts=len(body) > 1)

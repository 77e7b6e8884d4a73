"""A dataset and its plan in words and numbers, as rows of text."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from autoseg.dataset.problems import Problem
from autoseg.inspection.fingerprint import Fingerprint
from autoseg.planning.plan import Configuration, Decision, Plan
from autoseg.records import format_json
from autoseg.reporting.charts import colour_of, plain_number
from autoseg.reporting.dataset_charts import PlannedGrids

TIMES = "\N{MULTIPLICATION SIGN}"
NONE = "\N{EN DASH}"
SEVERITIES = ("error", "warning", "note")
SIZES = ("_vox", "_mm")  # how names of sizes along axes end
BRIEF = 70  # characters of a decision's value that its headline shows


@dataclass(frozen=True, slots=True)
class Reason:
    """A decision as text: `full` is its value where the headline has no room for it."""

    name: str
    brief: str
    because: str
    rule_id: str
    source: str
    facts: tuple[tuple[str, str], ...]
    full: str | None


def overview(plan: Plan, fingerprint: Fingerprint) -> list[tuple[str, str]]:
    """What the dataset is, as names and values."""
    labels, chosen = fingerprint.labels, plan.configuration(None)
    patients = len({case.patient_id for case in fingerprint.cases})
    codes = Counter(case.axis_codes for case in fingerprint.cases).most_common()
    rows = [
        ("scans", f"{len(fingerprint.cases):,}"),
        ("patients", f"{patients:,}"),
        ("channels", ", ".join(fingerprint.channel_names)),
        ("foreground classes", f"{len(fingerprint.classes)}"),
        ("stored axes", ", ".join(f"{code} ({count:,})" for code, count in codes)),
        ("planned for", _machine(plan)),
        ("rule set", plan.rule_set),
        (
            "recommended",
            f"{chosen.name}, patch {times(chosen.model.patch_size_vox)} voxels, batch "
            f"{chosen.run.batch_size}",
        ),
    ]
    if labels.regions:
        named = dict(zip(labels.values, labels.names, strict=True))
        regions = (
            f"{region.name} = {' + '.join(named[value] for value in region.values)}"
            for region in labels.regions
        )
        rows.insert(4, ("regions", "; ".join(regions)))
    if labels.ignore is not None:
        rows.insert(4, ("ignored label value", str(labels.ignore)))
    if labels.instances:
        rows.insert(4, ("labels", "numbered objects; the border is where objects touch"))
    return rows


def grid_rows(grids: PlannedGrids) -> list[list[str]]:
    """Minimum, median and maximum of size and spacing along each of the plan's axes."""
    rows = []
    for axis in grids.axes:
        spacing_mm = grids.spacing_mm[:, axis]
        known = ~np.isnan(spacing_mm)
        size_vox = grids.shape_vox[known, axis]
        numbers = (spacing_mm[known], size_vox, size_vox * spacing_mm[known])
        rows.append(
            [grids.axis_names[axis]]
            + [f"{value:.4g}" for n in numbers for value in (n.min(), np.median(n), n.max())]
        )
    return rows


def class_rows(fingerprint: Fingerprint) -> list[tuple[str, list[str]]]:
    """Colour, then value, name, shares and components of each class."""
    return [
        (
            colour_of(order),
            [
                str(c.value),
                c.name,
                _percent(c.image_fraction),
                _percent(c.foreground_fraction),
                _percent(c.case_fraction),
                f"{c.components_per_case:.4g}",
                plain_number(c.component_volume_mm3_p05),
                plain_number(c.component_volume_mm3_median),
                plain_number(c.component_volume_mm3_p95),
            ],
        )
        for order, c in enumerate(fingerprint.classes)
    ]


def channel_rows(configuration: Configuration) -> list[list[str]]:
    """Name, normalisation and foreground intensities of each channel."""
    return [
        [
            channel.channel,
            channel.kind + (", inside the non-zero mask" if channel.masked else ""),
            *(
                plain_number(value)
                for value in (
                    channel.statistics.min,
                    channel.statistics.percentile_00_5,
                    channel.statistics.median,
                    channel.statistics.percentile_99_5,
                    channel.statistics.max,
                    channel.statistics.mean,
                    channel.statistics.std,
                )
            ),
        ]
        for channel in configuration.grid.normalization
    ]


def configuration_rows(plan: Plan) -> list[list[str]]:
    """A row for each choice: its name, then its value in every configuration."""
    columns = [_choices(plan, c) for c in plan.configurations.values()]
    return [[name, *(column[name] for column in columns)] for name in columns[0]]


def stage_rows(configuration: Configuration) -> list[list[str]]:
    """A row for each resolution of the network."""
    spacing = list(configuration.grid.target_spacing_mm)
    rows = []
    for number, stage in enumerate(configuration.model.network.levels):
        spacing = [mm * step for mm, step in zip(spacing, stage.stride, strict=True)]
        rows.append(
            [
                str(number + 1),
                str(stage.features),
                times(stage.kernel_size),
                times(stage.stride),
                times(spacing),
                str(stage.blocks),
                str(stage.decoder_blocks) if stage.decoder_blocks else NONE,
            ]
        )
    return rows


def reasons(plan: Plan) -> list[tuple[str, list[Reason]]]:
    """All decisions, by configuration: of the whole plan, the recommended one's, the others'."""
    names = [plan.recommended, *(n for n in plan.configurations if n != plan.recommended)]
    groups = [("the whole plan", [d for d in plan.decisions if d.configuration is None])]
    groups += [(n, [d for d in plan.decisions if d.configuration == n]) for n in names]
    return [(title, [_reason(d) for d in found]) for title, found in groups if found]


def problem_rows(problems: Sequence[Problem]) -> list[list[str]]:
    """Severity, case, file, what is wrong and how to put it right; errors first."""
    ordered = sorted(problems, key=lambda p: SEVERITIES.index(p.severity))
    return [
        [p.severity, p.case_id or "", Path(p.file).name if p.file else "", p.what, p.fix]
        for p in ordered
    ]


def times(values: Iterable[float]) -> str:
    """Sizes along axes: `40 x 56 x 40`, with a proper sign."""
    return f" {TIMES} ".join(f"{value:.4g}" for value in values)


def _choices(plan: Plan, configuration: Configuration) -> dict[str, str]:
    levels = configuration.model.network.levels
    training = configuration.run.training
    patch_mm = [
        vox * mm
        for vox, mm in zip(
            configuration.model.patch_size_vox, configuration.grid.target_spacing_mm, strict=True
        )
    ]
    covered = np.prod(configuration.model.patch_size_vox) / np.prod(
        configuration.inference.median_shape_vox
    )
    return {
        "target spacing (mm)": times(configuration.grid.target_spacing_mm),
        "median scan on this grid (voxels)": times(configuration.inference.median_shape_vox),
        "patch (voxels)": times(configuration.model.patch_size_vox),
        "patch (mm)": times(patch_mm),
        "patch's share of the median scan": f"{100 * covered:.3g} %",
        "batch": str(configuration.run.batch_size),
        "normalisation": ", ".join(dict.fromkeys(n.kind for n in configuration.grid.normalization)),
        "network": configuration.model.network.kind,
        "stages, features": f"{len(levels)}, {levels[0].features} to {levels[-1].features}",
        "loss": configuration.run.loss.kind
        + (", Dice over the batch" if configuration.run.loss.batch_dice else ""),
        "training": f"{training.epochs:,} epochs of {training.iterations_per_epoch:,} iterations",
        "mirrored axes": ", ".join(map(str, configuration.inference.mirror_axes)) or "none",
        "starts from masks of": configuration.previous_stage or NONE,
        **_expected(plan, configuration),
    }


def _expected(plan: Plan, configuration: Configuration) -> dict[str, str]:
    """What a configuration is expected to take."""
    expected = plan.expected[configuration.name]
    return {
        "expected memory (GiB)": _number(expected.memory_gib),
        "expected time of a step (s)": _number(expected.step_seconds),
        "expected time of an epoch (min)": _number(expected.epoch_minutes),
        "expected time of a training (h)": _number(expected.fold_hours),
        "expected disk (GiB)": _number(expected.disk_gib),
        "expectation is": expected.basis,
    }


def _reason(decision: Decision) -> Reason:
    text = _text(decision.name, decision.value)
    is_long = len(text) > BRIEF
    return Reason(
        name=decision.name,
        brief=f"{text[: BRIEF - 1]}…" if is_long else text,
        because=decision.because,
        rule_id=decision.rule_id,
        source=decision.source,
        facts=tuple((name, _text(name, fact)) for name, fact in decision.facts.items()),
        full=format_json(decision.value) if is_long else None,
    )


def _text(name: str, value: Any) -> str:
    """A value on one line, without the punctuation of JSON; sizes along axes as `1 x 2 x 3`."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {_text(key, item)}" for key, item in value.items()) or NONE
    if isinstance(value, list | tuple):
        if value and name.endswith(SIZES) and all(isinstance(v, int | float) for v in value):
            return times(value)
        # Lists inside of a list are strides and kernels: sizes, whatever the name.
        return ", ".join(_text(SIZES[0], v) for v in value) or "none"
    if value is None:
        return NONE
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _machine(plan: Plan) -> str:
    machine = plan.machine
    gpu = "no GPU" if machine.gpu_name is None else f"GPU ({machine.gpu_memory_in_words})"
    return f"{gpu}, {machine.cores} cores, {machine.memory_gib:.4g} GiB of memory"


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.3g}"


def _number(value: float | None) -> str:
    return NONE if value is None else plain_number(value)

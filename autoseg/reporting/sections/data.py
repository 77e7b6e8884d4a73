"""The data set: grids, intensities, classes, example slices, and what is wrong with its files."""

from autoseg.reporting.charts import colour_of
from autoseg.reporting.content import ReportContent
from autoseg.reporting.dataset_charts import (
    CHANNELS_DRAWN,
    draw_classes,
    draw_grids,
    draw_intensities,
    drawn_classes,
    planned_grids,
)
from autoseg.reporting.dataset_tables import (
    channel_rows,
    class_rows,
    grid_rows,
    overview,
    problem_rows,
)
from autoseg.reporting.examples import draw_examples, visible_classes
from autoseg.reporting.page import Section, fill
from autoseg.reporting.tables import Cell, Table, head, text_table, words

OVERVIEW = """
<table class="plain">{% for name, value in rows %}
<tr><th scope="row">{{ name }}</th><td>{{ value }}</td></tr>{% endfor %}</table>
"""

GRIDS = """
<h3>Voxel grids</h3>
<p>Each dot is a scan{% if single_slices %}; of single slices only the plane is shown{% endif %};
on the grey diagonal voxels are isotropic. Sizes are those of the box around non-zero voxels, along
the plan's axes. Patches count voxels of the plan's grid, so that in mm they compare with scans of
any spacing.
{% if skipped %}Not drawn, for they order axes otherwise or share another's grid:
{{ skipped|join(", ") }}.{% endif %}</p>
{{ figure(png, "spacing and size of all scans, with target spacings and patches") }}
{{ table(rows) }}
"""

INTENSITIES = """
<h3>Intensities</h3>
<p>{% if has_histograms %}Histograms of each class over the background (grey), every one scaled to
its own height; dashed lines mark the foreground's percentiles 0.5 and 99.5, to which the
normalisation <i>ct</i> clips. {% else %}This fingerprint holds no histograms. {% endif %}
The foreground of each scan is a line from its percentile 0.5 to 99.5, with a dot at the median:
scanners whose scales differ show as steps.
{% if skipped %}Not drawn: {{ skipped|join(", ") }}.{% endif %}</p>
{% for png in pngs %}{{ figure(png, "intensity histograms by class, and foreground of each scan") }}
{% endfor %}
{{ table(rows) }}
<p class="muted">Intensities of the foreground, in the scans' own units; scans weigh equally.</p>
"""

CLASSES = """
<h3>Classes</h3>
{{ figure(png, "share of the image, component volumes and share of cases by class") }}
{% if skipped %}<details><summary>Drawn are the {{ drawn }} rarest classes;
{{ skipped|length }} others are more common</summary><p>{{ skipped|join(", ") }}</p></details>
{% endif %}
{{ table(rows) }}
"""

EXAMPLES = """
<h3>Examples</h3>
<p>The slice with most foreground of the scans with the least, median and most of it, without and
with outlines:</p>
{{ legend(visible) }}
{{ figure(png, "example slices with outlines of the classes") }}
"""

PROBLEMS = """
{% if rows.body %}{{ table(rows) }}{% else %}<p>Nothing is wrong with the files.</p>{% endif %}
"""


def data_section(content: ReportContent) -> Section:
    """What the scans and labels are."""
    parts = (
        fill(OVERVIEW, rows=overview(content.plan, content.fingerprint)),
        _grids(content),
        _intensities(content),
        _classes(content),
        _examples(content),
    )
    return Section("data", "Data", fill("{{ parts|join }}", parts=parts))


def problems_section(content: ReportContent) -> Section | None:
    """What `check` has to say of the files."""
    if content.problems is None:
        return None
    rows = [
        [Cell(text) for text in row]  # severities sort by what they are called: error, note, ...
        for row in problem_rows(content.problems)
    ]
    heads = [words(t) for t in ("", "case", "file", "what is wrong", "how to fix it")]
    title = f"Problems ({len(rows)})"
    return Section("problems", title, fill(PROBLEMS, rows=Table(heads, rows)))


def _grids(content: ReportContent) -> str:
    plan, fingerprint = content.plan, content.fingerprint
    grids = planned_grids(plan, fingerprint)
    drawn = [c.name for c in grids.configurations]
    return fill(
        GRIDS,
        png=draw_grids(grids),
        single_slices=any(1 in case.shape_vox for case in fingerprint.cases),
        skipped=[name for name in plan.configurations if name not in drawn],
        rows=text_table(
            ["axis", *3 * ("min", "median", "max")],
            grid_rows(grids),
            [("", 1), ("spacing (mm)", 3), ("size (voxels)", 3), ("size (mm)", 3)],
        ),
    )


def _intensities(content: ReportContent) -> str:
    chosen, fingerprint = content.plan.configuration(None), content.fingerprint
    heads = ("channel", "normalisation", "min", "0.5 %", "median", "99.5 %", "max", "mean", "std")
    return fill(
        INTENSITIES,
        pngs=draw_intensities(fingerprint, chosen.grid.normalization),
        has_histograms=bool(fingerprint.histogram_edges),
        skipped=fingerprint.channel_names[CHANNELS_DRAWN:],
        rows=text_table(heads, channel_rows(chosen)),
    )


def _classes(content: ReportContent) -> str:
    fingerprint = content.fingerprint
    drawn = drawn_classes(fingerprint)
    texts = ("value", "class", "image", "foreground", "scans", "components a scan")
    heads = [words(text) for text in texts[:2]] + [head(text) for text in texts[2:]]
    heads += [head(text) for text in ("5 %", "median", "95 %")]
    body = [
        [Cell(row[0], colour=colour), Cell(row[1]), *(Cell(t, number=True) for t in row[2:])]
        for colour, row in class_rows(fingerprint)
    ]
    groups = [("", 2), ("share of (%)", 3), ("", 1), ("volume of components (mm³)", 3)]
    return fill(
        CLASSES,
        png=draw_classes(fingerprint),
        drawn=len(drawn),
        skipped=[c.name for c in fingerprint.classes if c not in drawn],
        rows=Table(heads, body, groups=groups, sorts=False),
    )


def _examples(content: ReportContent) -> str:
    if not content.examples:
        return ""
    labels = content.fingerprint.labels
    channels = content.plan.configuration(None).grid.normalization
    return fill(
        EXAMPLES,
        png=draw_examples(content.examples, channels, labels),
        visible=[(colour_of(i - 1), labels.names[i]) for i in visible_classes(content.examples)],
    )

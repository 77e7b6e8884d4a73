"""Covers: dataset_charts, dataset_tables, examples, sections.data, sections.plan, viewing."""

import base64
import io
import re
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from autoseg.dataset.labels import LabelScheme, Region
from autoseg.dataset.layouts.recognition import open_dataset
from autoseg.dataset.problems import Problem
from autoseg.dataset.synthetic import make_scan, write_dataset, write_scan
from autoseg.inspection.fingerprint import Fingerprint, make_fingerprint
from autoseg.machine import Machine
from autoseg.planning.plan import Plan
from autoseg.reporting.charts import drawable
from autoseg.reporting.content import ReportContent
from autoseg.reporting.dataset_tables import class_rows, overview
from autoseg.reporting.examples import example_scans
from autoseg.reporting.report import write_report
from tests.planning.specified import plan_of


def planned(fingerprint: Fingerprint) -> Plan:
    machine = Machine(gpu_name="any", gpu_memory_gib=8, cores=8, memory_gib=64, bf16=True)
    return plan_of(fingerprint, "default", machine)


def report_of(folder: Path) -> ReportContent:
    dataset = open_dataset(folder)
    fingerprint = make_fingerprint(dataset, workers=1)
    examples = example_scans(dataset, fingerprint)
    return ReportContent("Scans", "Why?", planned(fingerprint), fingerprint, examples, ())


def render(content: ReportContent, folder: Path) -> str:
    write_report(content, folder / "report.html")
    return (folder / "report.html").read_text(encoding="utf-8")


def widths_of_pictures(html: str) -> list[int]:
    found = re.findall(r"data:image/png;base64,([^\"]+)", html)
    return [Image.open(io.BytesIO(base64.b64decode(png))).size[0] for png in found]


def with_classes(fingerprint: Fingerprint, names: tuple[str, ...]) -> Fingerprint:
    """The same scans, as if they had these classes, and were measured before histograms were."""
    stats = fingerprint.classes[0]
    classes = [
        stats.model_copy(update={"name": name, "value": index, "histogram": ()})
        for index, name in enumerate(names, 1)
    ]
    labels = LabelScheme(values=tuple(range(len(names) + 1)), names=("background", *names))
    changes = {"histogram_edges": (), "background_histogram": (), "classes": tuple(classes)}
    return fingerprint.model_copy(update=changes | {"labels": labels})


@pytest.fixture(scope="module")
def content(synthetic_dataset: Path) -> ReportContent:
    return report_of(synthetic_dataset)


def test_the_page_has_its_pictures_inside_and_loads_nothing(
    content: ReportContent, tmp_path: Path
) -> None:
    html = render(content, tmp_path)
    assert widths_of_pictures(html) == [1495] * 4
    assert "default-src 'none'; img-src data:" in html
    assert html.count("<script>") == 1  # our own
    assert not re.search(r"<script |<link|url\(|src=\"(?!data:)", html)


def test_numbers_in_tables_are_those_of_the_records(content: ReportContent, tmp_path: Path) -> None:
    html = render(content, tmp_path)
    configuration = content.plan.configuration(None)
    lesion = next(c for c in content.fingerprint.classes if c.name == "lesion")
    expected = content.plan.expected[content.plan.recommended]
    patch = " × ".join(str(size) for size in configuration.model.patch_size_vox)  # noqa: RUF001
    for cell in (
        patch,
        configuration.run.loss.kind,
        f"{100 * lesion.image_fraction:.3g}",
        f"{lesion.component_volume_mm3_median:.3g}",
        f"{configuration.grid.normalization[0].statistics.median:.3g}",
        f"{expected.memory_gib:.3g}",
    ):
        assert f">{cell}</td>" in html, cell
    assert all(d.rule_id in html for d in content.plan.decisions)
    assert html.count("<code>") == 2 * len(content.plan.decisions)


def test_names_are_escaped_wherever_they_appear(content: ReportContent, tmp_path: Path) -> None:
    odd = "<script>alert($x$)</script>"
    fingerprint = with_classes(content.fingerprint, (odd, "器官"))
    fingerprint = fingerprint.model_copy(update={"channel_names": (odd,)})
    problem = Problem(kind="empty_label", case_id=odd, file=f"{odd}\udcff", what=odd, fix=odd)
    example = replace(content.examples[0], case_id=odd)
    html = render(
        ReportContent(odd, odd, planned(fingerprint), fingerprint, (example,), (problem,)), tmp_path
    )
    assert "<script>alert" not in html
    assert html.count("&lt;script&gt;alert($x$)") >= 8


def test_problems_are_listed_errors_first(content: ReportContent, tmp_path: Path) -> None:
    problems = [
        Problem(kind=kind, case_id="a", file="/data/a.nii", what=f"has {kind}", fix="Mend it.")
        for kind in ("left_right", "empty_label", "unreadable")
    ]
    html = render(replace(content, problems=problems, examples=()), tmp_path)
    places = [html.index(f"has {kind}") for kind in ("unreadable", "empty_label", "left_right")]
    assert places == sorted(places)
    assert "Problems (3)" in html


def test_a_hundred_classes_without_histograms_are_all_named(
    content: ReportContent, tmp_path: Path
) -> None:
    names = tuple(f"structure {index}" for index in range(100))
    fingerprint = with_classes(content.fingerprint, names)
    html = render(replace(content, fingerprint=fingerprint, examples=()), tmp_path)
    assert "88 others are more common" in html
    assert "holds no histograms" in html
    assert all(f"<td>{name}</td>" in html for name in names)


def test_a_single_picture_in_colour_is_a_dataset_too(tmp_path: Path) -> None:
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (64, 80, 3), dtype=np.uint8)
    mask = np.zeros((64, 80), np.uint8)
    mask[10:30, 20:60] = 1
    Image.fromarray(pixels).save(tmp_path / "images" / "a.png")
    Image.fromarray(mask).save(tmp_path / "labels" / "a.png")
    content = report_of(tmp_path)
    (example,) = content.examples
    np.testing.assert_array_equal(example.classes, mask)  # as it is stored
    assert example.edges is None
    assert len(widths_of_pictures(render(content, tmp_path))) == 4


def test_examples_have_the_least_median_and_most_foreground(content: ReportContent) -> None:
    amounts = {
        case.case_id: sum(count for value, count in case.label_voxels.items() if value)
        for case in content.fingerprint.cases
    }
    ranked = sorted(amounts, key=lambda case_id: amounts[case_id])
    assert [e.case_id for e in content.examples] == [ranked[0], ranked[3], ranked[-1]]
    assert content.examples[0].why == f"least foreground: {3 * amounts[ranked[0]] / 1000:.3g} mL"


def test_examples_show_the_slice_with_most_foreground(tmp_path: Path) -> None:
    write_dataset(tmp_path, 1, shape_vox=(30, 28, 12))
    label = np.asarray(nib.load(tmp_path / "labelsTr" / "case_000.nii.gz").dataobj)  # [x, y, z]
    counts = (label > 0).sum(axis=(0, 1))
    (example,) = report_of(tmp_path).examples
    assert example.where == f"slice {12 - counts.argmax()} of 12"  # counted from the head
    assert (example.classes > 0).sum() == counts.max()


@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, 1, 1), (1, -1, -1)])
def test_slices_are_shown_with_anterior_up_and_the_patients_right_on_the_left(
    tmp_path: Path, signs: tuple[int, int, int]
) -> None:
    write_dataset(tmp_path, 1, shape_vox=(30, 28, 12))
    scan = make_scan(0, (30, 28, 12))
    right_anterior = tuple(slice(-8, None) if sign > 0 else slice(8) for sign in signs[:2])
    labels = np.zeros((30, 28, 12), np.uint8)
    labels[(*right_anterior, 5)] = 1
    affine = np.diag([*np.multiply(signs, (1, 1, 3)), 1.0])
    turned = replace(scan, affine_ras_mm=affine)
    write_scan(tmp_path / "imagesTr" / "case_000_0000.nii.gz", scan.image, turned)
    write_scan(tmp_path / "labelsTr" / "case_000.nii.gz", labels, turned)
    (example,) = report_of(tmp_path).examples
    assert example.edges == ("R", "A")
    assert (example.classes[:8, :8] == 1).all()
    assert (example.classes > 0).sum() == 64


def test_text_is_drawn_as_it_is_or_replaced_where_the_font_lacks_it() -> None:
    assert drawable("gain $5$\n", "class 1") == r"gain \$5\$"
    assert drawable("器官", "class 1") == "class 1"
    assert drawable("x" * 99, "class 1", limit=5) == "xxxx…"


def test_regions_are_told_by_their_classes(content: ReportContent) -> None:
    labels = content.fingerprint.labels.model_copy(
        update={"regions": (Region(name="all", values=(1, 3)),), "region_order": (1,)}
    )
    fingerprint = content.fingerprint.model_copy(update={"labels": labels})
    assert ("regions", "all = organ + lesion") in overview(content.plan, fingerprint)
    assert len(class_rows(fingerprint)) == 3

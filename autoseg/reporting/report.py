"""The report: one HTML page of a data set, its plan, its trainings and their scores."""

from collections.abc import Callable
from pathlib import Path

from autoseg.reporting.content import ReportContent
from autoseg.reporting.page import Section, write_page
from autoseg.reporting.sections.cases import cases_section, pictures_section
from autoseg.reporting.sections.data import data_section, problems_section
from autoseg.reporting.sections.failure_signs import failure_signs_section
from autoseg.reporting.sections.origins import origins_section
from autoseg.reporting.sections.plan import choices_section, reasons_section
from autoseg.reporting.sections.reliability import reliability_section
from autoseg.reporting.sections.scores import scores_section
from autoseg.reporting.sections.selection import selection_section
from autoseg.reporting.sections.summary import summary_section
from autoseg.reporting.sections.training import training_section
from autoseg.reporting.sections.volumes import volumes_section

# In the order of the page; a section that has nothing to show is None, and left out.
SECTIONS: tuple[Callable[[ReportContent], Section | None], ...] = (
    summary_section,
    data_section,
    problems_section,
    choices_section,
    reasons_section,
    training_section,
    scores_section,
    volumes_section,
    cases_section,
    pictures_section,
    selection_section,
    failure_signs_section,
    reliability_section,
    origins_section,
)


def write_report(content: ReportContent, path: Path) -> None:
    """Write the page; figures are inside it, so that it can be sent to somebody."""
    sections = [made for make in SECTIONS if (made := make(content)) is not None]
    write_page(path, content.title, sections)

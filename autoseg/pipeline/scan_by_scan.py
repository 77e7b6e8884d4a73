"""Scans segmented one by one, while the next is read and the last one written."""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from autoseg.dataset.dataset import Case
from autoseg.dataset.reading import read_channels
from autoseg.parallel import Progress, explain_failure, silent
from autoseg.pipeline.mask_writer import MaskWriter

if TYPE_CHECKING:
    from autoseg.inference.predictor import Predictor, ReadyScan, Segmentation
    from autoseg.inference.provenance import Provenance


def predict_cases(
    predictor: "Predictor",
    cases: Sequence[Case],
    writer: MaskWriter,
    progress: Progress = silent,
    ahead: bool = True,
) -> tuple[list["Provenance"], list[str]]:
    """Segment cases one by one; what was done, and what went wrong with the others.

    While networks run, the next scan is read and the last mask written, unless `ahead` is false
    or the predictor has a limit of memory: the next scan's size is not known.
    """
    ahead = ahead and predictor.memory_gib is None
    with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as thread:
        pen = _Pen(writer, thread)
        count = 0
        progress(count, len(cases), "predicting scans")
        for case, ready in ready_scans(predictor, cases, reader if ahead else None):
            try:
                if isinstance(ready, Exception):
                    raise ready
                pen.write(case, predictor.segment(ready, writer.requested(case.case_id)))
            except Exception as error:
                pen.problems.append(explain_failure(case.case_id, error))
            if not ahead:
                pen.finish()
            del ready  # a large scan is not kept while the next is read
            count += 1
            progress(count, len(cases), "predicting scans")
        pen.finish()
    return pen.done, pen.problems


@dataclass(slots=True)
class _Pen:
    """Writes a mask in a thread while the next scan is worked on; what came of those before it."""

    writer: MaskWriter
    thread: ThreadPoolExecutor
    done: list["Provenance"] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    writing: "tuple[str, Future[None], Provenance] | None" = None

    def write(self, case: Case, segmentation: "Segmentation") -> None:
        self.finish()  # one is kept at most
        future = self.thread.submit(self.writer.write, case, segmentation)
        self.writing = case.case_id, future, segmentation.provenance

    def finish(self) -> None:
        """Wait for the mask that is being written, if one is."""
        if self.writing is None:
            return
        case_id, future, provenance = self.writing
        self.writing = None
        try:
            future.result()
            self.done.append(provenance)
        except Exception as error:
            self.problems.append(explain_failure(case_id, error))


def ready_scans(
    predictor: "Predictor", cases: Sequence[Case], reader: ThreadPoolExecutor | None
) -> Iterator[tuple[Case, "ReadyScan | Exception"]]:
    """Every case, read and put on the models' grids; the next one while the last is worked on."""

    def read(case: Case) -> "ReadyScan":
        return predictor.prepare(read_channels(case), case.case_id)

    coming: Future[ReadyScan] | None = None
    for index, case in enumerate(cases):
        outcome: ReadyScan | Exception
        try:
            outcome = read(case) if coming is None else coming.result()
        except Exception as error:
            outcome = error
        coming = None
        if reader is not None and index + 1 < len(cases):
            coming = reader.submit(read, cases[index + 1])
        yield case, outcome
        del outcome

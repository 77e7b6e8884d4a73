"""The format DICOM: volumes of series, and label maps that SEG and RTSTRUCT hold."""

from pathlib import Path

from autoseg.errors import AutosegError
from autoseg.images.dicom.contours import read_rtstruct
from autoseg.images.dicom.headers import RTSTRUCT_CLASS, SEG_CLASSES, refuse_unreadable
from autoseg.images.dicom.references import files_behind
from autoseg.images.dicom.segments import read_seg
from autoseg.images.dicom.series import file_of, instance_of, read_stack, recognise, stack_of
from autoseg.images.raw import Format, RawImage


def read_dicom(path: Path) -> RawImage:
    """Read the volume that a file stands for, or the label map that a SEG or RTSTRUCT holds."""
    instance = refuse_unreadable(instance_of(file_of(path)))
    if instance.sop_class in SEG_CLASSES:
        return read_seg(path)
    if instance.sop_class == RTSTRUCT_CLASS:
        return read_rtstruct(path)
    return read_stack(path, stack_of(path))


def count_values(path: Path) -> int:
    """How many voxels headers promise."""
    try:
        stack = stack_of(path)
    except AutosegError:
        return 0
    rows, columns = stack.first.instance.shape
    return len(stack.slices) * rows * columns


def side_files(path: Path) -> tuple[Path, ...]:
    """The other files of a volume; of a SEG or RTSTRUCT, those that give it its place and names."""
    file = file_of(path)
    try:
        instance = refuse_unreadable(instance_of(file))
        if instance.sop_class in (*SEG_CLASSES, RTSTRUCT_CLASS):
            return files_behind(instance)
        files = dict.fromkeys(one.instance.path for one in stack_of(path).present)
    except AutosegError:
        return ()
    return tuple(other for other in files if other != file)


DICOM = Format(
    "DICOM",
    endings=(".dcm", ".dicom"),
    read=read_dicom,
    count_channels=lambda path: 1,
    count_values=count_values,
    side_files=side_files,
    recognise=recognise,
    file_of=file_of,
)

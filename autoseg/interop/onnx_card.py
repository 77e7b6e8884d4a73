"""What other programs must know of a network in ONNX, saved as JSON beside it."""

from typing import Literal

from autoseg.checkpoint import ModelCard
from autoseg.dataset.labels import LabelScheme
from autoseg.geometry import Shape3
from autoseg.inference.engines.onnx_graph import INPUT, OPSET, OUTPUT
from autoseg.inference.mirroring import network_axes
from autoseg.inference.sliding_window import PEAK_WEIGHT
from autoseg.planning.grid_plan import GridPlan
from autoseg.planning.model_plan import InputPlan
from autoseg.postprocessing.steps import Step
from autoseg.records import Record
from autoseg.version import __version__

FORMAT_VERSION = 1
GraphPrecision = Literal["fp32", "fp16"]
AXES = {2: ("batch", "channel", "y", "x"), 3: ("batch", "channel", "z", "y", "x")}


class Parity(Record):
    """How a graph, run by ONNX Runtime on a CPU, differs from torch in single precision: by its
    logits at most, and in what share of voxels the decision is the same."""

    patch: str  # random, or the prepared case that it is the middle of
    largest_difference: float
    equal_labels: float

    def in_a_line(self) -> str:
        return (
            f"{self.patch} patch: logits differ from torch's by at most "
            f"{self.largest_difference:.2g}, {self.equal_labels:.4%} of labels are equal"
        )


class GraphFile(Record):
    """One file of a network; `precision` is of its weights and convolutions alone."""

    file: str
    precision: GraphPrecision
    blake2b: str  # of 16 bytes
    parity: tuple[Parity, ...]


class TensorCard(Record):
    """An input or output of the graph, always in float32; None: any size."""

    name: str
    axes: tuple[str, ...]
    shape: tuple[int | None, ...]
    channels: tuple[str, ...]


class Mirroring(Record):
    """Axes of the input along which the network was trained mirrored, and whether the graph gives
    the mean over all subsets of them."""

    tensor_axes: tuple[int, ...]
    in_graph: bool


class WindowCard(Record):
    """How patches cover a scan, and what they weigh, as `docs/export.md` defines it.

    The patch is a block of the scan on the network's grid, a single slice deep in two dimensions.
    """

    patch_box_vox: Shape3
    step_fraction: float
    gaussian_sigma_fraction: float
    gaussian_peak: float = PEAK_WEIGHT
    gaussian_rounded_to: Literal["float16"] = "float16"


class Decoding(Record):
    """From logits to the values of label files.

    `largest`: the value of the largest logit. `paint`: values[0], over which each output i that
    exceeds the threshold paints values[1 + i], in order.
    """

    rule: Literal["largest", "paint"]
    values: tuple[int, ...]
    threshold: float | None = None


class OnnxCard(Record):
    """All that is needed to use a network, besides its graph."""

    format_version: int = FORMAT_VERSION
    autoseg_version: str = __version__
    name: str
    model_blake2b: str  # of the model file that it was made from
    opset: int = OPSET
    files: tuple[GraphFile, ...]
    input: TensorCard
    output: TensorCard
    mirroring: Mirroring
    scan_channels: tuple[str, ...]
    inputs: tuple[InputPlan, ...]
    grid: GridPlan
    window: WindowCard
    labels: LabelScheme
    decoding: Decoding


class GroupCard(Record):
    """Networks that are averaged as logits, patch by patch.

    `previous` is the number of the group whose mask they see. Groups that `answer` are averaged as
    probabilities.
    """

    networks: tuple[str, ...]
    previous: int | None
    answer: bool


class PredictionCard(Record):
    """How networks predict together, and what corrects their masks."""

    format_version: int = FORMAT_VERSION
    groups: tuple[GroupCard, ...]
    steps: tuple[Step, ...]


def describe_network(
    name: str, card: ModelCard, model_blake2b: str, mirrored: bool, files: tuple[GraphFile, ...]
) -> OnnxCard:
    """The card of a network, whose model's card says how it predicts with those beside it."""
    configuration, labels = card.configuration, card.labels
    model, inference = configuration.model, configuration.inference
    axes = AXES[model.spatial_dims]
    outputs = tuple(region.name for region in labels.regions) or labels.names
    return OnnxCard(
        name=name,
        model_blake2b=model_blake2b,
        files=files,
        input=_tensor(INPUT, axes, model.channel_names, model.patch_size_vox),
        output=_tensor(OUTPUT, axes, outputs, model.patch_size_vox),
        mirroring=Mirroring(
            tensor_axes=network_axes(inference.mirror_axes, model.spatial_dims), in_graph=mirrored
        ),
        scan_channels=card.channel_names,
        inputs=model.inputs,
        grid=configuration.grid,
        window=WindowCard(
            patch_box_vox=model.patch_box_vox,
            step_fraction=inference.step_fraction,
            gaussian_sigma_fraction=inference.gaussian_sigma_fraction,
        ),
        labels=labels,
        decoding=_decoding(labels),
    )


def _tensor(
    name: str, axes: tuple[str, ...], channels: tuple[str, ...], size_vox: tuple[int, ...]
) -> TensorCard:
    return TensorCard(
        name=name, axes=axes, shape=(None, len(channels), *size_vox), channels=channels
    )


def _decoding(labels: LabelScheme) -> Decoding:
    if labels.regions:
        values = (labels.values[0], *labels.region_order)
        return Decoding(rule="paint", values=values, threshold=0)
    return Decoding(rule="largest", values=labels.values)

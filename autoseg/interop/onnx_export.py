"""Models as ONNX graphs, with a card that says all that other programs need to use them."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from autoseg.checkpoint import ModelCard, ModelSource, content_hash, load_source
from autoseg.errors import AutosegError
from autoseg.inference.engines.onnx_engine import RUNTIME
from autoseg.inference.engines.onnx_graph import HalfPrecision, missing_packages, onnx_graph
from autoseg.inference.members import Members, arrange, sources_of
from autoseg.inference.mirroring import Mirrored, network_axes
from autoseg.interop.onnx_card import (
    GraphFile,
    GraphPrecision,
    GroupCard,
    OnnxCard,
    PredictionCard,
    describe_network,
)
from autoseg.interop.onnx_parity import compare, example_patches
from autoseg.parallel import Progress, silent
from autoseg.records import replacing, save_record
from autoseg.tasks import task_of

PREDICTION = "prediction.json"
PRECISIONS: tuple[GraphPrecision, ...] = ("fp32", "fp16")
WEIGHTS_LIMIT = 2**31  # bytes of a file in the format of protocol buffers


@dataclass(frozen=True, slots=True)
class OnnxJob:
    """Model files, or one pack; the folder to write to; whether graphs average mirror images; and
    the work folder whose prepared cases graphs are tried on, where it has any."""

    models: tuple[Path, ...]
    output: Path
    precisions: tuple[GraphPrecision, ...] = PRECISIONS
    mirrored: bool = True
    work: Path | None = None


def export_networks(job: OnnxJob, progress: Progress = silent) -> list[OnnxCard]:
    """Write every network as `<name>.<precision>.onnx`, with its card `<name>.json`; then how they
    predict together as prediction.json.

    Raises AutosegError when packages are missing, models do not belong together, a network cannot
    be said in ONNX, or its files are there already.
    """
    missing = missing_packages(RUNTIME)
    if missing:
        raise AutosegError(
            f"export onnx: {', '.join(missing)} is not installed. Install it with pip install "
            "'autoseg[onnxruntime]'."
        )
    sources, recipe = sources_of(job.models, None)
    arranged = arrange(sources, recipe)
    names = name_networks([source for members in arranged for source in members.sources])
    _check_output(job.output, [*names, Path(PREDICTION).stem])
    cards: list[OnnxCard] = []
    left = iter(names)
    for members in arranged:
        for source in members.sources:
            progress(len(cards), len(names), "writing networks")
            cards.append(_export(job, next(left), source, members.card))
    progress(len(names), len(names), "writing networks")
    prediction = PredictionCard(groups=tuple(_groups(arranged, names)), steps=recipe.steps)
    save_record(prediction, job.output / PREDICTION)
    return cards


def name_networks(sources: Sequence[ModelSource]) -> list[str]:
    """A name of its own for each: plan, configuration and fold, numbered where those are alike."""
    names = []
    seen: Counter[str] = Counter()
    for source in sources:
        card = source.card
        fold = "all" if card.fold is None else card.fold
        name = f"{card.plan_name}_{card.configuration.name}_fold_{fold}"
        seen[name] += 1
        names.append(name if seen[name] == 1 else f"{name}_{seen[name]}")
    return names


def _check_output(output: Path, names: Sequence[str]) -> None:
    there = [path for path in (output / f"{name}.json" for name in names) if path.exists()]
    if there:
        raise AutosegError(f"{there[0]} is there already. Remove {output}, or change --out.")


def _export(job: OnnxJob, name: str, source: ModelSource, card: ModelCard) -> OnnxCard:
    """Write one network; the card, which marks it done, last. `card` is what its group shares."""
    network, model_hash = load_source(source)
    configuration = card.configuration
    model = configuration.model
    axes = network_axes(configuration.inference.mirror_axes, model.spatial_dims)
    patches = example_patches(card, job.work)
    seen_back = task_of(configuration, card.labels).seen_back
    files = []
    for precision in job.precisions:
        inner = HalfPrecision(network) if precision == "fp16" else network
        whole = Mirrored(inner, axes, seen_back) if job.mirrored else inner
        graph = _graph(source, whole, (len(model.channel_names), *model.patch_size_vox))
        file = f"{name}.{precision}.onnx"
        job.output.mkdir(parents=True, exist_ok=True)
        with replacing(job.output / file) as temporary:
            temporary.write_bytes(graph)
        parity = compare(graph, network, card, job.mirrored, patches)
        files.append(
            GraphFile(file=file, precision=precision, blake2b=content_hash(graph), parity=parity)
        )
    described = describe_network(name, card, model_hash, job.mirrored, tuple(files))
    save_record(described, job.output / f"{name}.json")
    return described


def _graph(source: ModelSource, network: nn.Module, patch_shape: tuple[int, ...]) -> bytes:
    size = sum(tensor.nbytes for tensor in network.state_dict().values())
    if size >= WEIGHTS_LIMIT:
        raise AutosegError(
            f"{source}: its weights take 2 GiB or more, which no ONNX file can hold."
        )
    try:
        return onnx_graph(network, patch_shape)
    except Exception as error:  # of many kinds
        reason = str(error).strip().partition("\n")[0]
        raise AutosegError(f"{source}: cannot be said in ONNX ({reason}).") from error


def _groups(arranged: Sequence[Members], names: Sequence[str]) -> Iterator[GroupCard]:
    left = iter(names)
    for members in arranged:
        own = tuple(next(left) for _ in members.sources)
        yield GroupCard(networks=own, previous=members.previous, answer=members.answer)

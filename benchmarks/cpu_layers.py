"""What a training step costs on a CPU: with our norms and convolutions and torch's, by layout.

    python -m benchmarks.cpu_layers PLAN...

Of the recommended configuration of each plan (a work folder's `plans/NAME.json`): forward and
backward passes of one batch of noise on one thread, all ways in turn, and what its optimiser takes.
Medians of processor seconds and multiply-adds of a step go to benchmarks/results/cpu_layers.json by
the data set's folder and the plan's name.
"""

import json
import statistics
import sys
import time
from contextlib import ExitStack
from itertools import product
from pathlib import Path
from types import ModuleType
from unittest.mock import patch

import torch
from torch.utils._pytree import tree_leaves

from autoseg.checkpoint import build_network
from autoseg.device import choose_device, hardware_of
from autoseg.networks import family_of, instance_norm, quick_convolution
from autoseg.networks.family import all_outputs
from autoseg.planning.expectation import PASSES
from autoseg.planning.plan import Plan
from autoseg.planning.run_plan import Execution
from autoseg.records import load_record, replacing
from autoseg.training.execution import executed, laid_out
from autoseg.training.learner import make_optimizer

RESULTS = Path(__file__).parent / "results" / "cpu_layers.json"
ROUNDS, STEPS = 5, 3
# Of each way the layers that are torch's own.
WAYS: dict[str, tuple[ModuleType, ...]] = {
    "torch": (instance_norm, quick_convolution),
    "norms": (quick_convolution,),
    "norms and convolutions": (),
}
LAYOUTS: dict[str, Execution] = {"contiguous": "eager", "channels last": "channels_last"}


def seconds_of(plan: Plan) -> dict[str, float]:
    """Of a step, by layout and what of it is ours, and of the optimiser."""
    configuration = plan.configurations[plan.recommended]
    model, batch = configuration.model, configuration.run.batch_size
    torch.manual_seed(0)
    network = build_network(model)
    optimizer = make_optimizer(network, configuration, choose_device("cpu"))
    noise = torch.randn(batch, len(model.channel_names), *model.patch_size_vox)
    took: dict[str, list[float]] = {}
    for _, (layout, execution), way in product(range(ROUNDS), LAYOUTS.items(), WAYS):
        with ExitStack() as stack:
            for layers in WAYS[way]:
                stack.enter_context(patch.object(layers, "cpu_trains", lambda *_: False))
            run, image = executed(network, execution), laid_out(noise, execution)
            for step in range(STEPS):
                begun = time.process_time()
                outputs = tree_leaves(all_outputs(run, image, model.network))
                torch.stack([x.float().square().mean() for x in outputs]).sum().backward()  # type: ignore[no-untyped-call]
                ended = time.process_time()
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                if step:  # the first warms up
                    took.setdefault(f"{layout}, {way}", []).append(ended - begun)
                    took.setdefault("optimiser", []).append(time.process_time() - ended)
    cost = family_of(model.network.kind).cost(model)
    return {
        "multiply_adds": PASSES * cost.multiply_adds * batch,
        **{way: round(statistics.median(seconds), 3) for way, seconds in took.items()},
    }


def main() -> None:
    torch.set_num_threads(1)
    content = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    content["machine"] = hardware_of(choose_device("cpu"))
    for path in map(Path, sys.argv[1:]):
        title = f"{path.parent.parent.name}, {path.stem}"
        content[title] = seconds_of(load_record(Plan, path))
        print(title, content[title], flush=True)
    with replacing(RESULTS) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()

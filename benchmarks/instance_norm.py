"""What instance norms cost a training step on a CPU: ours and torch's, by layout.

    python -m benchmarks.instance_norm PLAN...

Of the recommended configuration of each plan (a work folder's `plans/NAME.json`): forward and
backward passes of one batch of noise on one thread, the four ways in turn. Medians of processor
seconds go to benchmarks/results/instance_norm.json by the data set's folder and the plan's name.
"""

import json
import statistics
import sys
import time
from pathlib import Path
from unittest.mock import patch

import torch
from torch.utils._pytree import tree_leaves

from autoseg.checkpoint import build_network
from autoseg.device import choose_device, hardware_of
from autoseg.networks import instance_norm
from autoseg.networks.family import all_outputs
from autoseg.planning.plan import Plan
from autoseg.planning.run_plan import Execution
from autoseg.records import load_record, replacing
from autoseg.training.execution import executed, laid_out

RESULTS = Path(__file__).parent / "results" / "instance_norm.json"
ROUNDS, STEPS = 5, 3
LAYOUTS: dict[str, Execution] = {"contiguous": "eager", "channels last": "channels_last"}


def seconds_of(plan: Plan) -> dict[str, float]:
    """Of a step, by layout and norm."""
    model = plan.configurations[plan.recommended].model
    batch = plan.configurations[plan.recommended].run.batch_size
    torch.manual_seed(0)
    network = build_network(model)
    noise = torch.randn(batch, len(model.channel_names), *model.patch_size_vox)
    quick = instance_norm._is_quick
    took: dict[str, list[float]] = {}
    for _ in range(ROUNDS):
        for layout, execution in LAYOUTS.items():
            for norm, used in (("torch", lambda *_: False), ("ours", quick)):
                with patch.object(instance_norm, "_is_quick", used):
                    run, image = executed(network, execution), laid_out(noise, execution)
                    for step in range(STEPS):
                        begun = time.process_time()
                        outputs = tree_leaves(all_outputs(run, image, model.network))
                        torch.stack([x.float().square().mean() for x in outputs]).sum().backward()  # type: ignore[no-untyped-call]
                        network.zero_grad(set_to_none=True)
                        if step:  # the first warms up
                            spent = time.process_time() - begun
                            took.setdefault(f"{layout}, {norm}", []).append(spent)
    return {way: round(statistics.median(seconds), 3) for way, seconds in took.items()}


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

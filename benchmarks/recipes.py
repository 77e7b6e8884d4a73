"""What a short training on a CPU should be like: one change of the plan at a time, then together.

    python -m benchmarks.recipes WORK DATASET... [--minutes 10] [--seeds 0 1 2] [--only ...]

Each recipe trains fold 0 for the same minutes of a processor as all others, as
`benchmarks.networks` does with networks; the Dice of its held-out cases counts.
"""

import argparse
from itertools import product
from pathlib import Path

from benchmarks.equal_time import Contestant, kept

RESULTS = Path(__file__).parent / "results" / "recipes.json"
ADAMW = (
    "training.optimizer=adamw", "training.learning_rate=1e-3", "training.momentum=0.9",
    "training.weight_decay=0.01", "training.warmup_fraction=0.03",
)  # fmt: skip
INTENSITY = (
    "noise_std", "blur_sigma_vox", "brightness", "contrast", "low_resolution", "inverted_gamma",
    "gamma",
)  # fmt: skip
LIGHT = tuple(f"run.augmentation.{name}.probability=0" for name in INTENSITY)
MEAN = ("training.ema_decay=0.99",)
RECIPES: dict[str, tuple[str, ...]] = {
    "as_planned": (),
    "moving_mean": MEAN,
    "adamw": ADAMW,
    "adamw_cosine": (*ADAMW, "training.schedule=cosine"),
    "less_momentum": ("training.momentum=0.9", "training.learning_rate=0.05"),
    "warmed_up": ("training.learning_rate=0.03", "training.warmup_fraction=0.1"),
    "cosine": ("training.schedule=cosine",),
    "batch_of_4": ("batch_size=4",),
    "batch_of_1": ("batch_size=1",),
    "light_augmentation": LIGHT,
    "one_resolution": ("model.network.deep_supervision=false",),
    "more_foreground": ("training.foreground_fraction=0.67",),
    "adamw_moving_mean": (*ADAMW, *MEAN),
    "adamw_mean_light": (*ADAMW, *MEAN, *LIGHT),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("datasets", type=Path, nargs="+")
    parser.add_argument("--minutes", type=float, default=10, help="of a processor")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", nargs="+", choices=RECIPES, default=list(RECIPES))
    options = parser.parse_args()
    for dataset, name, seed in product(options.datasets, options.only, options.seeds):
        changes = ("--set", *RECIPES[name]) if RECIPES[name] else ()
        one = Contestant(name, ("--rules", "cpu", *changes), seed)
        kept(RESULTS, dataset, options.work, one, options.minutes)


if __name__ == "__main__":
    main()

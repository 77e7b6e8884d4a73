"""Ways to train one network in a short time: one change at a time, then several together.

    python -m benchmarks.recipes WORK DATASET... [--minutes 30] [--seeds 3] [--only plain adamw ...]

Each training by the rules `cpu`, or by those of another network that a recipe names, takes the same
time of a processor (30 minutes are 15 of two cores), whatever it changes: what makes a step dearer
has fewer of them. A recipe is a list of settings as `autoseg plan --set` takes them, a rule of its
own, or a rule set; `a+b` is both. Fold 0 of each data set is planned, trained and scored by
the command line. What is trained is not trained again.
"""

import argparse
from itertools import product
from pathlib import Path

from benchmarks.equal_time import Contestant, kept

RESULTS = Path(__file__).parent / "results" / "recipes.json"
SGD = ("training.optimizer=sgd",)
ADAMW = ("training.optimizer=adamw", "training.momentum=0.9", "training.learning_rate=1e-3")
MUON = ("training.optimizer=muon", "training.momentum=0.95", "training.learning_rate=5e-3")
INTENSITY = ("noise_std", "blur_sigma_vox", "contrast", "low_resolution", "inverted_gamma", "gamma")
CHANGES: dict[str, tuple[str, ...]] = {
    "plain": (*SGD, "training.momentum=0.99", "training.learning_rate=0.01"),
    "momentum": (*SGD, "training.momentum=0.9", "training.learning_rate=0.03"),
    "adamw": ADAMW,
    "adamw_fast": (*ADAMW, "training.learning_rate=3e-3"),
    "muon": MUON,
    "muon_slowest": (*MUON, "training.learning_rate=1e-3"),
    "muon_slow": (*MUON, "training.learning_rate=3e-3"),
    "muon_fast": (*MUON, "training.learning_rate=1e-2"),
    "decay": ("training.weight_decay=0.05",),
    "cosine": ("training.schedule=cosine", "training.warmup_fraction=0.05"),
    "mean": ("training.ema_decay=0.99",),
    "one_sample": ("batch_size=1",),
    "two_samples": ("batch_size=2",),
    "four_samples": ("batch_size=4",),
    "small_slices": ("2d.patch_size_vox=128,128",),
    "top_k": ("loss.kind=topk_dice", "loss.top_k_fraction=0.1"),
    "foreground": ("training.foreground_fraction=0.67",),
    "shallow_loss": ("model.network.deep_supervision=false",),
    "light": tuple(f"augmentation.{name}.probability=0" for name in INTENSITY),
    "heavy": (
        "augmentation.rotation_degrees.probability=0.5",
        "augmentation.scaling.probability=0.5",
        "augmentation.elastic_vox.probability=0.3",
        "augmentation.elastic_vox.range=0,4",
    ),
    "residual": ("model.network.kind=residual_unet",),
    "one_rate": ("training.learning_rate=6e-4", "training.head_rate=1"),
    "one_look": ("inference.mirror_axes=[]",),
}
RULES = ("fcn", "deeplab", "segformer", "mednext")
DECIDED = {  # by a rule of their own
    "wide": 'decides = "network"\nchanges = { base_features = 16, max_features = 160 }',
    "slim_decoder": 'decides = "network"\nchanges = { decoder_blocks = 1 }',
    "mib_512": 'decides = "memory_gib"\nvalue = { fixed_gib = 0.5 }',
    "mib_256": 'decides = "memory_gib"\nvalue = { fixed_gib = 0.25 }',
    "mib_128": 'decides = "memory_gib"\nvalue = { fixed_gib = 0.125 }',
    "mib_64": 'decides = "memory_gib"\nvalue = { fixed_gib = 0.0625 }',
}


def recipe(work: Path, name: str, seed: int) -> Contestant:
    """The plan of a recipe: later settings of the same value win."""
    parts = name.split("+")
    known = CHANGES | dict.fromkeys((*DECIDED, *RULES), ())
    settings = dict(one.split("=", 1) for part in parts for one in known[part])
    decided = [part for part in parts if part in DECIDED]
    [named] = [part for part in parts if part in RULES] or ["cpu"]
    rules = rules_with(work, named, decided) if decided else named
    chosen = [f"{key}={value}" for key, value in settings.items()]
    plan = ("--rules", rules, *(("--set", *chosen) if chosen else ()))
    return Contestant(name.replace("+", "_"), plan, seed)


def rules_with(work: Path, parent: str, decided: list[str]) -> str:
    """The folder of rules that are those of a set, and some of one's own before them."""
    folder = work / "rules" / "_".join((parent, *decided))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "ruleset.toml").write_text(f'title = "a recipe"\nextends = "{parent}"\n')
    (folder / "rules.toml").write_text(
        "".join(
            f'[[rule]]\nid = "recipe.{name}"\n{DECIDED[name]}\n'
            'because = "to be compared"\nsource = "benchmarks/recipes.py"\n'
            for name in decided
        )
    )
    return str(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("datasets", type=Path, nargs="+")
    parser.add_argument("--minutes", type=float, default=30, help="of a processor")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--only", nargs="+", default=[*CHANGES, *DECIDED], metavar="RECIPE")
    options = parser.parse_args()
    for dataset, seed, name in product(options.datasets, range(options.seeds), options.only):
        kept(RESULTS, dataset, options.work, recipe(options.work, name, seed), options.minutes)


if __name__ == "__main__":
    main()

"""Every network trained for the same processor time on the same fold of the same data.

    python -m benchmarks.networks WORK DATASET... [--minutes 30] [--only plain residual fcn ...]
        [--set 'inference.mirror_axes=[]']

Each data set has a work folder in WORK, whose folds, augmentation and machine all networks share.
Fold 0 of each is planned, trained and scored by the command line, for as many iterations as take
so many minutes of a processor: 30 are 15 minutes of two cores of one's own, and other work beside
it changes nothing. Programs with different networks may run beside each other, in work folders of
their own. Of each network: Dice of the held-out cases with its 95 % interval, iterations, processor
seconds of a step, MB of memory at the most, and Dice a minute of processor time. What is trained is
not trained again.
"""

import argparse
from itertools import product
from pathlib import Path

from benchmarks.equal_time import Contestant, kept

RESULTS = Path(__file__).parent / "results" / "networks.json"
NETWORKS: dict[str, tuple[str, ...]] = {
    "plain": ("--rules", "cpu"),
    "residual": ("--rules", "cpu", "--set", "model.network.kind=residual_unet"),
    **{name: ("--rules", name) for name in ("fcn", "deeplab", "segformer", "mednext")},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("datasets", type=Path, nargs="+")
    parser.add_argument("--minutes", type=float, default=30, help="of a processor")
    parser.add_argument("--only", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--set", nargs="+", default=[], metavar="PATH=VALUE", help="of all plans")
    options = parser.parse_args()
    for dataset, name in product(options.datasets, options.only):
        one = Contestant(name, NETWORKS[name], set=options.set)
        kept(RESULTS, dataset, options.work, one, options.minutes)


if __name__ == "__main__":
    main()

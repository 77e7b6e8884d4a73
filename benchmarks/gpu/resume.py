"""Does a training that was stopped and goes on end where one does that was not?"""

from threading import Event

from autoseg.training.schedule import Budget
from benchmarks.gpu.part import Bench
from benchmarks.gpu.trainings import Watch, largest_difference, train

ITERATIONS, SMALL_ITERATIONS = 50, 4


def measure(bench: Bench) -> None:
    count = SMALL_ITERATIONS if bench.small else ITERATIONS
    options = {
        "execution": "eager",
        "iterations_per_epoch": count // 2,
        "validation_iterations": 1,
    }
    budget = Budget(iterations=count)
    models, losses = {}, {}
    for name in ("whole", "again"):
        watch = Watch()
        done = train(bench.work(name, **options), bench.device, budget, watch, Event())
        models[name], losses[name] = done.folder / "model.safetensors", watch.losses
    difference = largest_difference(models["whole"], models["again"])
    bench.note(iterations=count, largest_difference_of_equal_trainings=difference)

    work, stop = bench.work("parts", **options), Event()
    stopped = train(work, bench.device, budget, Watch({count // 2: stop.set}), stop)
    watch = Watch()
    done = train(work, bench.device, budget, watch, Event(), start="resume")
    bench.note(
        stopped_at=stopped.iterations,
        ended_at=done.iterations,
        largest_difference_of_resumed=largest_difference(
            models["whole"], done.folder / "model.safetensors"
        ),
        last_losses={"whole": losses["whole"][-1], "resumed": watch.losses[-1]},
    )

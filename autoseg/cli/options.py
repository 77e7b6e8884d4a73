"""Options that several verbs share, and what they stand for. Imports nothing that takes time."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

VerbTable: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def add_verb(
    table: VerbTable,
    name: str,
    run: Callable[[argparse.Namespace], int | None],
    summary: str,
    more: str,
) -> argparse.ArgumentParser:
    """A verb without options yet: `summary` in the list of verbs, with `more` in its own help."""
    parser = table.add_parser(
        name, help=summary, description=f"{summary[0].upper()}{summary[1:]}. {more}"
    )
    parser.set_defaults(run=run)
    return parser


def add_work(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--work",
        type=Path,
        default=Path("autoseg_work"),
        metavar="DIR",
        help="work folder (default: ./autoseg_work)",
    )


def add_plan_name(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--plan", metavar="NAME", help="plan to use (default: the latest one made)")


def add_configuration(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--configuration",
        metavar="NAME",
        help="such as 2d or 3d_fullres (default: the plan's choice)",
    )


def add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", metavar="NAME", help="cpu, gpu, or gpu:1 (default: a GPU)")


def add_workers(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--workers", type=int, metavar="N", help="processes (default: one per core; 1: in-process)"
    )


def workers(options: argparse.Namespace) -> int:
    """How many processes `--workers` asks for."""
    from autoseg.machine import available_cores

    return int(options.workers or available_cores())


def not_negative(text: str) -> float:
    """A number as it is typed. Raises ArgumentTypeError where it is not finite, or below 0."""
    number = _number(text)
    if not 0 <= number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a number from 0 on")
    return number


def positive(text: str) -> float:
    """A number as it is typed. Raises ArgumentTypeError where it is not finite and above 0."""
    number = _number(text)
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a number above 0")
    return number


def _number(text: str) -> float:
    """What is typed; not a number where it is none."""
    try:
        return float(text)
    except ValueError:
        return float("nan")

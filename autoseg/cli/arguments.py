"""What can be typed: the verbs in their order. Imports nothing that takes time."""

import argparse
from typing import Protocol

from autoseg.cli.options import VerbTable
from autoseg.cli.verbs import (
    check,
    demo,
    doctor,
    evaluate,
    explain,
    export,
    import_,
    plan,
    predict,
    prepare,
    report,
    select,
    train,
)
from autoseg.version import __version__


class Verb(Protocol):
    """What a module of `verbs` has."""

    def add(self, table: VerbTable) -> None: ...

    def run(self, options: argparse.Namespace) -> int | None: ...


VERBS: tuple[Verb, ...] = (
    check,
    plan,
    explain,
    prepare,
    train,
    predict,
    evaluate,
    select,
    report,
    import_,
    export,
    doctor,
    demo,
)


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="autoseg",
        description="Self-configuring segmentation of medical images.",
        epilog="Each verb explains itself: autoseg VERB --help",
    )
    parser.add_argument("--version", action="version", version=f"autoseg {__version__}")
    table = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    for verb in VERBS:
        verb.add(table)
    return parser

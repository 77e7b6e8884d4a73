"""The command line: verbs to pipeline stages. Nothing else prints or ends the process.

Read `main` here, `arguments` (what can be typed), `verbs` (what is called for it), `screens` (how
results and progress look), `scores`, `selection_screen` and `quality_screen` (how scores, choices
and doubts do) and `reasons` (what `explain` answers).
"""

import errno
import logging
import signal
import sys
from types import FrameType

from autoseg.cli.arguments import make_parser
from autoseg.cli.verbs import INTERRUPTED, TERMINATED


def main(arguments: list[str] | None = None) -> int:
    """Run one verb; the exit code is 0 done, 1 failed, 2 wrong usage, 130 or 143 interrupted."""
    options = make_parser().parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    signal.signal(signal.SIGTERM, _terminate)
    from autoseg.errors import AutosegError

    try:
        code: int | None = options.run(options)
    except AutosegError as error:
        print(f"autoseg {options.verb}: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # whoever reads has seen enough
        sys.stdout = None  # so that nothing is flushed at the end
        return 0
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            print(
                f"autoseg {options.verb}: {error.filename or ''}: {error.strerror or error}. Check "
                "the path and its permissions.",
                file=sys.stderr,
            )
            return 1
        print(
            f"autoseg {options.verb}: the disk is full ({error.filename or error}). Free some "
            "space and run the same command again; a training goes on with --resume.",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        print(f"autoseg {options.verb}: interrupted.", file=sys.stderr)
        return INTERRUPTED
    return code or 0


def _terminate(number: int, frame: FrameType | None) -> None:
    print("autoseg: terminated.", file=sys.stderr)
    raise SystemExit(TERMINATED)

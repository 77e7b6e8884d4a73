"""The command line: verbs to pipeline stages. Nothing else prints or ends the process.

Read `main` here, `arguments` (the list of verbs), then in `verbs` the module of one of them: what
can be typed for it, and what is called. They share `options` and what `environment` says;
`progress` shows what takes long, and `interruption` ends it before its time. Last, how results
look: `screens`; `scores`, `selection_screen` and `quality_screen` (scores, choices and doubts);
`reasons` (what `explain` answers).

A new verb is a module in `verbs`, its name in the list, and a test.
"""

import errno
import logging
import signal
import sys

from autoseg.cli.arguments import make_parser
from autoseg.cli.interruption import INTERRUPTED, terminate


def main(arguments: list[str] | None = None) -> int:
    """Run one verb; the exit code is 0 done, 1 failed, 2 wrong usage, 130 or 143 interrupted."""
    options = make_parser().parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    signal.signal(signal.SIGTERM, terminate)
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

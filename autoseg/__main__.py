"""`python -m autoseg` is the `autoseg` command."""

from autoseg.cli import main

raise SystemExit(main())

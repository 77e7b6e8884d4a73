"""One module for each verb: `add` says what can be typed for it, `run` what is done then.

`cli.arguments` lists them in order. `add` runs for every command line, even for `--help`, so
modules import at their top nothing that takes time, and `run` imports what it calls.

On data and plans: `check`, `plan`, `explain`. On models: `prepare`, `train`, `select`. On results:
`predict`, `evaluate`, `report`. With other tools and machines: `import_`, `export`. On autoseg
itself: `doctor`, `demo`.
"""

"""The stages in order, each a function from a job, which is data, to files that people can read.

`check` a dataset, `plan` it, `prepare` scans, `train` folds, `evaluate` masks, `select` models,
`pack` them, `predict` scans, `report` on all: one module for each verb; `doctor` looks at the
machine, `demo` runs everything. Models come and go by `interop`. Scans are segmented
`scan_by_scan`, and `mask_writer` writes what came of each: `pictures` outline masks on scans,
`objects` are told one by one, `other_formats` are masks in DICOM and BIDS. `keeping` says what a
new plan keeps of a work folder, `jobs` what a training is asked for and who holds its fold,
`remarks` what to know of it. `fitting` makes plans fit a machine, `cascade` links two stages,
`executors` run jobs on several GPUs, `figures` draw a training. `programs` are the same stages for
programs: `autoseg.plan(...)`. To select, `candidates` are found, `held_out` cases are predicted,
`postprocess` is measured, `calibration` learns what Dice to expect, `object_sureness` how sure one
may be of objects, and `selected` is what is saved.
"""

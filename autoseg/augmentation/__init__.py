"""Samples made different: geometry, intensities, and mistakes in an earlier stage's masks.

Read `sample` (the records) and `policy` (what is drawn, in which order), then `spatial`,
`intensity` and `masks`; `on_cpu` is the same policy by batchgenerators.
"""

"""Masks against references.

Read `mask_pair` (one class in two maps of a scan), `metrics` (the table, whose functions stand in
`overlap`), `scored_case` (one pair of files), then `evaluate` (folders of maps, and means) and
`evaluation` (what is saved), with `pairing` (which mask belongs to which reference), `declared`
(what values mean) and `remarks` (what a reader should know).

What is selected by scores: `selection` (models, with `patients` for intervals), then `corrections`
(what a step of post-processing does to a case), `step_candidates` and `step_choice`. What Dice to
expect of a mask is learned by `calibration`, also
from scans that `shifts` spoil.
"""

"""Masks against references.

Read `mask_pair` (one class in two maps of a scan), `metrics` (the table, whose functions stand in
`overlap`), `scored_case` (one pair of files), then `evaluate` (many of them) and `evaluation` (what
is saved). Their numbers are in `statistics`, by way of `score_arrays`; `pooling` takes folds
together, `comparison` sets masks of several models side by side, `score_table` writes CSV. What is
asked is in `scoring`; `pairing` says which mask belongs to which reference, `declared` what values
mean, `patients` whose cases are, and `remarks` what a reader should know.
"""

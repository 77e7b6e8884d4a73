"""Masks against references.

Read `mask_pair` (one class in two maps of a scan), then `metrics` (the table, whose functions stand
in `overlap`, `distances`, `boundaries` and `centreline`; `surfaces` is what distances are between),
then `evaluate` (folders of maps, and means), with `pairing` (which mask belongs to which reference)
and `declared` (what values mean).
"""

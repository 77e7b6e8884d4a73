"""Masks against references.

Read `mask_pair` (one class in two maps of a scan), then `metrics` (the table). Its functions stand in
`overlap`; `distances`, `boundaries` and `centreline`, of `surfaces`; `lesions`, `panoptic` and
`detection`, of `objects` (and `joined_lesions`, as BraTS has them); and `calibration`, of
`saved_probabilities`. Then `scored_case` (one pair of files), `evaluate` (folders of maps, and means)
and `evaluation` (what is saved), with `pairing` (which mask belongs to which reference), `declared`
(what values mean) and `remarks` (what a reader should know).
"""

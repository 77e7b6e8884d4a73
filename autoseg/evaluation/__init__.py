"""Masks against references.

Read `mask_pair` (one class in two maps of a scan), then `metrics` (the table). Its functions stand
in `overlap`; in `distances`, `boundaries` and `centreline`, by `surfaces`; in `lesions`, `panoptic`
and `detection`, by `objects` (and `joined_lesions`, as BraTS has them); and in `calibration`, by
`saved_probabilities`. Then `scored_case` (one pair of files, with objects that are `numbered`
beside them), `evaluate` (many of them) and `evaluation` (what is saved). Their numbers are in
`statistics`, by way of `score_arrays`, and in `pooled_metrics`, of objects of all scans; `pooling`
takes folds together, `comparison` sets masks of several models side by side, `score_table` writes
CSV. What is asked is in `scoring`; `pairing` says which mask belongs to which reference, `declared`
what values mean, `stated_patients` whose cases are, and `remarks` what a reader should know.

What is selected by scores: `selection` (models, with `patients` for intervals), then `corrections`
(what a step of post-processing does to a case), `step_candidates` and `step_choice`; it is saved as
`selection_record`. What Dice to expect of a mask is learned by `dice_estimates`, also from scans
that `shifts` spoil; how sure one may be of an object by `object_sureness`.
"""

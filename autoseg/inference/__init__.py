"""From a scan and models to a mask on the scan's own grid.

Read `predictor`, `members` (which models go together), `models` and `whole_scan`, then
`sliding_window` and `merging` (from patches to logits) and `restore` (to the scan's grid);
`maps` are what is made of scores, `columns` says how much at once, `engines` run networks, and
`ways` finds what is fastest here. `queries` takes scores and objects from what queries find, and
`joining` makes one of objects that patches share. `ensemble` with `mirroring`, `probabilities`,
`confidence` and `provenance` stand beside them; `subsets` makes the masks of several ensembles at
once, and counts, by `reliability`, whether their probabilities are true.
"""

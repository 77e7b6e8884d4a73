"""Figures, and HTML pages that stand on their own.

Read `report`, the table of sections, and `content`, what they show; `page` with its `style` and
`tables`; then the `sections`. Figures: `charts` is what all share, `dataset_charts`, `curves` of
trainings, `score_charts`, and slices: `examples` of data sets and the `mosaic` of a mask, both by
`viewing`. `dataset_tables` put a plan in words; `ranking` finds the cases that tell most.
"""

"""Figures, and HTML pages that stand on their own.

Read `page` and `charts`, which all share; then `report` of scores with its `mosaic`, and
`dataset_report` with its `dataset_charts`, `dataset_tables` and `examples`; `curves` show a
training.
"""

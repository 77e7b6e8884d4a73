"""What each case of a dataset is, all that is wrong with it, and what the dataset is as a whole.

Read `case` (one reading of its files) with `statistics` (what is measured, with `objects`) and
`stored_labels` (label maps that were saved lossily), then `cached` (many cases, none twice),
`fingerprint` (pooled), `consistency` (across cases: `outliers`, and `hounsfield` units against
channel names) and `repair` (a copy).
"""

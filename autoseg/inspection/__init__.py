"""What each case of a dataset is, all that is wrong with it, and what the dataset is as a whole.

Read `case` (one reading of its files) with `statistics` (what is measured), then `cached` (many
cases, none twice), `fingerprint` (pooled), `consistency` (across cases) and `repair` (a copy).
"""

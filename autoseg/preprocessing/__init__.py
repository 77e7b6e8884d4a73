"""From scans as stored to arrays on a plan's grid, written once and read patch by patch.

Read `prepare`, which does all of it, then its steps `tilt`, `normalize`, `resample` and `locations`
(where classes lie), and `store`, the file format; `parts` reads and checks the parts of such a
file.
"""

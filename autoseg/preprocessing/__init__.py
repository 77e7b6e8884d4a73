"""From scans as stored to arrays on a plan's grid, written once and read patch by patch.

Read `prepare`, which does all of it for a dataset, and `placing`, for a scan, with its steps
`tilt`, `normalize`, `resample` and `locations` (where classes lie); what comes of it is a
`prepared_case`. `store` is its file's format, of which `parts` reads and checks the parts.
"""

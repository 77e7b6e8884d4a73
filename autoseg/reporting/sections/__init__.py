"""The parts of a report, each a function from its content to a section, or None without any.

In the order of the page: `summary`, `data`, `plan`, `training`, `scores`, `volumes`, `cases` with
their pictures, `selection`, `failure_signs`, `reliability`, and `origins`: machine, versions and
hashes.
"""

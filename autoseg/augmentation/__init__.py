"""Samples made different: geometry, intensities, and mistakes in an earlier stage's masks.

Read `sample` (what comes), `batch` (what is made of it) and `policy` (what is drawn, in which
order), then `spatial`, `intensity` and `masks`; `change` sends their numbers to a device.
"""

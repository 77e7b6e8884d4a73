"""Masks against references.

Read `metrics` (one pair of label maps), then `evaluate` (folders of them, and means), with
`pairing` (which mask belongs to which reference) and `declared` (what values mean).
"""

"""Masks against references.

Read `metrics` (one pair of label maps), then `evaluate` (folders of them, and means).
"""

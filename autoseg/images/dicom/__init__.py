"""DICOM in and out: series as volumes whose every slice knows its instance and frame.

Read `headers` (frames as files state them), `stacks` (frames put in order, and what is wrong with
that), `pixels`, `series` and `format`. `survey` is a folder as an archive gives it. `segments` and
`contours` are label maps of SEG and RTSTRUCT, which `references` puts on their series. The way back
is `codes`, `derived` (what made objects have in common), `write_seg` and `write_contours`. pydicom
is imported where a file is opened (`opening`), never before.
"""

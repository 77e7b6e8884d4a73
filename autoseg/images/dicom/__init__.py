"""DICOM in and out: series as volumes whose every slice knows its instance and frame.

Read `headers` (frames as files state them), `stacks` (frames put in order, and what is wrong with
that), `pixels`, and `series`, which is the format. `survey` is a folder as an archive gives it.
`segments` and `contours` are label maps from SEG and RTSTRUCT; `codes`, `identity`, `write_seg` and
`write_contours` the way back. pydicom is imported where a file is opened, never before.
"""

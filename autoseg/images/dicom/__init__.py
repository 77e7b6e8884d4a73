"""DICOM in and out: series as volumes whose every slice knows its instance and frame.

Read `opening` (what is DICOM), `headers` (frames as files state them; those of nuclear medicine by
`vectors`), `stacks` (frames put in order, and what is wrong with that), `pixels`, `series` and
`format`. `survey` is a folder as an archive gives it, and `folders` how that lies on the disk.
`segments` and `contours` are label maps of SEG and RTSTRUCT, which `references` puts on their
series. The way back is `codes`, `derived` (what made objects have in common), `write_seg` and
`write_contours`. pydicom is imported where a file is opened, never before.
"""

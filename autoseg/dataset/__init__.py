"""Which scans there are, where their files lie, and what their labels mean; no pixel is kept.

Read `labels`, `dataset` and `problems`, which are the records; then `layouts`, which finds them on
disk, `reading` of one case (and `regridding` of its channels), its `objects` and their
`object_classes`, `inputs` to predict (of DICOM by `dicom_channels`), `splits`, `synthetic` scans;
`bids_derivatives` are masks as BIDS has them, `coco_results` objects as COCO does, and
`panoptic_results` both in one map.
"""

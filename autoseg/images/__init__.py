"""Image files of every format in and out, with their place in space kept to the bit.

Read `raw` (what a format brings) and `formats` (the table), then `volume`, which others use. The
formats are `nifti` (with `nifti_header`), `itk` (with `text_headers` and `text_fields`), `tiff`
(with `tiff_tags`), `pictures`, `coco` (with `coco_masks`) and the room `dicom`; `in_memory` does
without files, `foreground` is where a scan holds anything, and `value_boxes` where a label map has
its values.
"""

"""Ways in which datasets lie on disk: recognised by what is there, never asked for.

Read `recognition` first, which holds the table and opens any of them. A layout is `nnunet_raw`
(with `nnunet_images` and `mapping`), `msd`, `plain`, `nndetection`, `coco`, `bids`, `dicom`, or
`manifest` (with `manifest_rows`). Files and names are shared: `naming`, `pairing` of images
with labels, `folder_files` that are left over, `patients`; and what people write: `json_files`,
`description` (strict), `tidying` (what is nearly right), `regions`, `folds`. `unrecognised` says
what a folder lacks to be any of them.
"""

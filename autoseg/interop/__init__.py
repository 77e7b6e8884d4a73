"""Models that come from nnU-Net v2 and go there, without running code that is in them.

Read `nnunet_models` (in) and `nnunet_export` (out); `nnunet_folders` knows their files and
`nnunet_weights` their networks, weight by weight.
"""

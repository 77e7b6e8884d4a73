"""Models that come from elsewhere and go there, without running code that is in them.

Of nnU-Net v2 read `nnunet_models` (in) and `nnunet_export` (out); `nnunet_folders` knows their
files and `nnunet_weights` their networks, weight by weight. `onnx_export` writes networks for other
runtimes, with an `onnx_card` beside each and `onnx_parity` measured.
"""

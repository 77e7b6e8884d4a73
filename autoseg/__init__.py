"""Self-configuring segmentation of medical images: plan, train, predict."""

__version__ = "0.1.0"

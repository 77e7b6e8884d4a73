"""The stages, in order, each from records to files that people can read."""

"""A factory that distils CLIP labels into tiny yes/no image classifiers."""

__version__ = "0.1.0"

"""The node: it receives, stores, tracks and delivers DICOM objects."""

__version__ = "0.1.0"

"""The node: it receives, keeps, remembers and delivers DICOM objects."""

__version__ = "0.1.0"

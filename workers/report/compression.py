"""
An object with pixels in another transfer syntax, without loss and under the same UID: it says the same.

What is kept is uncompressed, which every destination takes; one that prefers less on its line may have it so.
"""

import copy

from pydicom.dataset import Dataset
from pydicom.uid import UID, ExplicitVRLittleEndian, JPEG2000Lossless, JPEGLSLossless, RLELossless

SYNTAXES = (JPEGLSLossless, JPEG2000Lossless, RLELossless, ExplicitVRLittleEndian)
"""Those that `compressed` writes; the smallest and quickest first, measured on pages of two knees."""


def compressed(made: Dataset, syntax: str) -> Dataset:
    """
    A copy of `made` whose pixels are written in `syntax`.

    Raises
    ------
    ValueError
        For a transfer syntax that is none of SYNTAXES.
    """
    if syntax not in SYNTAXES:
        raise ValueError(f"{syntax} is no lossless transfer syntax that is written here")
    packed = copy.deepcopy(made)  # a shallow copy shares its elements, and compressing changes them
    if syntax != made.file_meta.TransferSyntaxUID:
        if syntax == JPEG2000Lossless and made.get("PhotometricInterpretation") == "RGB":
            packed.PhotometricInterpretation = "YBR_RCT"  # what the codestream holds (PS3.5 8.2.4)
        packed.compress(UID(syntax), generate_instance_uid=False)
    return packed

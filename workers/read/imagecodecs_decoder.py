"""
JPEG of 8, 12 and 16 bits by imagecodecs, as a decoding plugin of pydicom.

No other decoder that is not GPL reads 12-bit JPEG Extended. imagecodecs (BSD) brings libjpeg-turbo 3, which reads
baseline, extended and lossless JPEG. Grey frames only: other plugins read colour ones.
"""

from imagecodecs import jpeg8_decode
from pydicom import uid
from pydicom.pixels.decoders.base import DecodeRunner

SYNTAXES = (uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit, uid.JPEGLossless, uid.JPEGLosslessSV1)
DECODER_DEPENDENCIES = dict.fromkeys(SYNTAXES, ("imagecodecs>=2026.3",))
"""What pydicom names where a plugin is not available; it expects this name."""


def is_available(transfer_syntax_uid: str) -> bool:
    """Whether the plugin reads this transfer syntax; pydicom expects this name."""
    return transfer_syntax_uid in SYNTAXES


def decode_frame(frame: bytes, runner: DecodeRunner) -> bytearray:
    """
    The frame's pixels, in words of 8 or 16 bits as its precision needs.

    Raises ValueError for a colour frame or a frame of another size, and imagecodecs' Jpeg8Error for a broken one.
    """
    if runner.samples_per_pixel != 1:
        raise ValueError("a colour frame")
    pixels = jpeg8_decode(bytes(frame))
    if pixels.shape != (runner.rows, runner.columns):
        raise ValueError(f"the frame has the shape {pixels.shape}")
    runner.set_option("bits_allocated", 8 * pixels.itemsize)
    return bytearray(pixels.tobytes())

"""Where the tests find the checkout, and beside it the real radiographs that are no part of it."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data"

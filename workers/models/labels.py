"""The classes that the small networks predict. The order of each set is that of the network's outputs."""

JOINT_KINDS = ("knee", "total replacement", "part replacement", "metal", "cast", "lateral", "skyline", "other")
"""What a detected joint is."""
KNEE, REPLACED, PARTLY_REPLACED, METAL, CAST, LATERAL, SKYLINE, OTHER = range(8)

ARTEFACT_KINDS = ("nothing", "marker", "text", "metal", "border")
"""What a pixel beside the bones shows."""
NOTHING, MARKER, TEXT, HARDWARE, BORDER = range(5)

LEAD_LETTERS = ("nothing", "R", "L")
"""What a bright spot of a letter's size is; the first is NOTHING, as above."""
LETTER_R, LETTER_L = 1, 2

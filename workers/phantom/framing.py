"""
How a joint box lies about a knee: the framing of the crops the networks are trained on.

Measured on 464 crops of the "Knee Osteoarthritis Severity Grading Dataset" (Chen, 10.17632/56rmx5bjcr.1) with the
tibial landmarks of KNEEL (Tiulpin et al. 2019) fitted onto them: the medians. A rendered knee and a real one are
framed alike by `joint_box`, and so is a film composed of real crops.
"""

from node.finding import Laterality
from workers.preprocessing import Box

PLATEAU_WIDTH_OF_BOX = 0.786
"""Width of the tibial plateau, margin to margin, as part of the box's side (5th to 95th percentile: 0.72 to 0.85)."""

PLATEAU_CENTRE_OF_BOX = 0.491
"""Where the middle of the plateau lies across the box of a right knee, from the image's left, its lateral side."""

JOINT_LINE_OF_BOX = 0.625
"""Where the joint line lies down the box: the mean height of the middles of both tibial plateaus."""

PLATEAU_WIDTH_MM = 78.0
"""Width of an average adult's tibial plateau on these films (5th to 95th percentile: 68 to 92 mm)."""


def joint_box(laterality: Laterality, *, middle_x: float, joint_line_y: float, plateau_width: float) -> Box:
    """The box about a knee whose plateau is that wide and has its middle there; all in pixels (edges, not centres)."""
    side = plateau_width / PLATEAU_WIDTH_OF_BOX
    across = 1 - PLATEAU_CENTRE_OF_BOX if laterality is Laterality.LEFT else PLATEAU_CENTRE_OF_BOX
    x0, y0 = middle_x - across * side, joint_line_y - JOINT_LINE_OF_BOX * side
    return Box(x0, y0, x0 + side, y0 + side)

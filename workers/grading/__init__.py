"""From a joint to its Kellgren-Lawrence grade: the forward pass, calibration and prediction sets."""

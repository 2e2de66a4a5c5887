"""Where a grade came from: Grad-CAM, regions of the knee, attribution of the decision to them."""

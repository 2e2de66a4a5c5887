"""How good a model is: metrics on labelled knees, stress, comparison, and calibration to a site's readers."""

"""
Measurements, side by side with what else is installed: `make bench`, or `python -m bench --help`.

Nothing here says whether a figure is good; it says what was measured, how often, how it spread, and on what.
"""

"""
Benchmarks of Genu and of other installed receivers: `make bench`, or `python -m bench --help`.

Every figure has its number of measurements, its spread and the machine; none is rated.
"""

"""The commands of `genu` that need the workers: grade, read, work, evaluate, calibrate, audit, train, models."""

"""Training of the shipped models and their audit, repeatable."""

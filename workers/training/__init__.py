"""How the models were made and judged, to be run again."""

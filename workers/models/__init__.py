"""Models: cards, weights, networks, engines, and which model is active."""

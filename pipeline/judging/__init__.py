"""How good a model is, and is that enough: statistics of stored results, gates, verdicts for people and for CI."""

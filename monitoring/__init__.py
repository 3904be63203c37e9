"""Watching labels and predictions: additive statistics, ratios, the report."""

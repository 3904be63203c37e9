"""Monitoring of labels and predictions: additive statistics, ratios, diagnosis, the report."""

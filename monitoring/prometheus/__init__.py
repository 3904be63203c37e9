"""Figures for Prometheus: a collector, a log in its own event time, rules."""

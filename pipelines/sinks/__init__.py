"""Sinks: where rows are written, and the outputs of a replay."""

"""The configuration file: its model, its reading, its notations of durations and conditions."""

"""The runner of a replay."""

IN_PROCESS = "--runner=FnApiRunner"
"""Named outright: plain ``DirectRunner`` chooses another runner without a word."""

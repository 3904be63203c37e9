"""The Beam runner of a replay."""

IN_PROCESS = "--runner=FnApiRunner"
"""Named explicitly: ``DirectRunner`` may silently choose another runner."""

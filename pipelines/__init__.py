"""Beam transforms, sources, sinks, jobs and the command line; all that is not pure."""

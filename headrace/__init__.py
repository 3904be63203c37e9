"""Streaming sample joining and online learning with exact, replayable results."""

"""Files in: which there are, what they hold, and their events as blocks."""

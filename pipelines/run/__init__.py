"""One run in its folder: locking, scratch files, publication."""

"""Records as columns: decoding, event times, hashes, and the envelopes they travel in."""

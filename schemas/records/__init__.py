"""Records as columns: decoding, event times, hashes, and the envelopes that carry them."""

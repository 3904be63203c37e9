"""What data looks like: configuration, columns, hashes, envelopes, decoding."""

"""The shape of data: configuration, columns, hashes, envelopes, decoding."""

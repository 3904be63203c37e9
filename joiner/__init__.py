"""The join: impressions and actions by key and event time, into labelled samples."""

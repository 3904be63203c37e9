"""What leaves the join: labels, samples, joined actions, dead records."""

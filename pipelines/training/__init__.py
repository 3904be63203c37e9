"""The training step of a run: its state with statistics and snapshots, independent of Beam."""

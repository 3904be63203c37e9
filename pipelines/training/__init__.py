"""The training of a run: its state with statistics and snapshots, on any runner or none."""

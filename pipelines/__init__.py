"""Sources, sinks, Beam steps, jobs and the command line: everything that does input or output."""

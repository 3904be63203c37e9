"""Sources: the files of a configuration, their columns, and their events as blocks."""

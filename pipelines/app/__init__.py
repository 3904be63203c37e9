"""The user's side: the command line, and the functions behind ``import headrace``."""

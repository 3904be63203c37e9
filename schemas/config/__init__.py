"""The configuration file: its model, how it is read, and the little languages in it."""

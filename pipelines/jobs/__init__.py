"""What can be done with logs: replay them, validate them, study windows, generate them."""

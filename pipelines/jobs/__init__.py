"""What can be done with logs: replay them, study windows, generate them."""

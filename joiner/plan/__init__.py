"""What a join is told to do, and the rules it follows."""

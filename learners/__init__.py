"""Feature hashing, online learners, and the trainer that feeds them in order of emit time."""

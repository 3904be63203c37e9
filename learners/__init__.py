"""Feature hashing, online learners, and the trainer that feeds them in event-time order."""

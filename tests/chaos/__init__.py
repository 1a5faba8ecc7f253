"""Random faults against the whole system, and an account of what became of every session, video and item."""

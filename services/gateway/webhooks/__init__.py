"""Webhooks: the results of a session, posted to an address as they come."""

"""Telling the world: the outbox empties the store's unsent transitions, the hub serves subscribers."""

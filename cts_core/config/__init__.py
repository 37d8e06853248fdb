"""The settings: what can be set, where each value comes from, and what is refused."""

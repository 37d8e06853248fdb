"""The worker on an HTCondor node: its entry point, its environment, its client of the API."""

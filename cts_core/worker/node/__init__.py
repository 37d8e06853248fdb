"""The worker on a node of HTCondor: its entry, its environment, its client of the API."""

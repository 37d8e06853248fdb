"""Random faults, two or three at once, and a check of everything that the service promised meanwhile."""

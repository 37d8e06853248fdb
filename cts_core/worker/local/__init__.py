"""The worker beside its server: the fork server and what it forks."""

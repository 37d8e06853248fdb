"""Events of jobs: the outbox publishes each stored transition, and the hub streams them to subscribers."""

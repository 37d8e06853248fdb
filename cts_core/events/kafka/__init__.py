"""The topic of events on Kafka. Its clients block: each is used by one thread, and every wait is bounded."""

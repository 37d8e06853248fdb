"""Real servers that the tests start: one module per server, each with ``install``, a class and a fixture."""

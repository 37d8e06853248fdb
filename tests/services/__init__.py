"""Real servers that the tests start: one module a server, each with ``install``, a class and a fixture."""

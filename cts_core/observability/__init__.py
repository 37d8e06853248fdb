"""Observability: instrumented ports, health of dependencies, and metrics."""

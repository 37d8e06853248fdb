"""The engine: use cases, the loops that drive jobs, and the wiring of adapters."""

"""The ways to run a container, one module each."""

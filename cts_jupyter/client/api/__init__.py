"""What can be asked of a CTS service, one module a noun. ``tests/jupyter/test_calls.py`` holds it to the route table."""

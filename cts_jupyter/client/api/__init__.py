"""What can be asked of a CTS service, one module a noun. ``tests/jupyter/client/api/test_route_table.py`` holds it to the route table."""

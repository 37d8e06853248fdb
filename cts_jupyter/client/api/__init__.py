"""The endpoints of a CTS service, one module a noun. ``tests/jupyter/client/api/test_route_table.py`` compares them with the route table."""

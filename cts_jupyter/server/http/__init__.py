"""The REST API below ``/cts``: one route table, from which handlers and OpenAPI come."""

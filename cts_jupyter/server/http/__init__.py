"""A small web framework on tornado: a table of typed routes, from which the handler and the OpenAPI description come."""

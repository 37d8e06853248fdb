"""The operator's command ``cts``: one module a noun. It works on the stores, also with every server down."""

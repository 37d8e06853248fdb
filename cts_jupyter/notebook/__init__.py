"""Jobs, tables, the card and ``%cts`` in a kernel."""

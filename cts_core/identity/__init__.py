"""Who is asking: the identity port and its adapters."""

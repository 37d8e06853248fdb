"""Authentication: the identity port and its adapters."""

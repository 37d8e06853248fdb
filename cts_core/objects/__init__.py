"""Where the bytes are: the object-store port, its adapters and the rules for object paths."""

"""The object store as a directory: the one implementation of its format on disk."""

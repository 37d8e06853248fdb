"""The use cases, and what drives every job to its end."""

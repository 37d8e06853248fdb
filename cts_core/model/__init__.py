"""Pydantic models of the API and of the records, one noun a module."""

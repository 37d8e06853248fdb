"""What is said over the API and what is stored, as pydantic models: one noun a module."""

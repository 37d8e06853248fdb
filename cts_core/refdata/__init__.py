"""Reference data: staging into folders, a library for sites and the staging service."""

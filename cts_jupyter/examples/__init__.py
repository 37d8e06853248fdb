"""Small real tools that the quickstart registers as ``host/...`` images."""

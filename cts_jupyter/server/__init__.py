"""The parts in the Jupyter server's process: the extension, the REST API and the proxy."""

"""What runs in the process of the Jupyter server: the extension, the REST API and the proxy."""

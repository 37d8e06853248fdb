"""Images: their names, and programs of this machine as images."""

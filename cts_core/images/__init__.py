"""Images: their names, programs of this machine as images, and images of registries."""

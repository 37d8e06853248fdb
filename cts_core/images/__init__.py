"""Images: their names, programs of this machine as images, and what registries say of theirs."""

"""The steps of one container, whoever asked for it."""

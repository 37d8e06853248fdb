"""The steps of one container, at every site."""

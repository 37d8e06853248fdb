"""The reverse proxy of the preset ``remote``: no engine runs here; requests go to a CTS elsewhere with the user's token."""

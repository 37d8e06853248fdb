"""The preset ``remote``: no engine here; requests go to a CTS service elsewhere with the user's token."""

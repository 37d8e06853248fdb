"""Runs next to a container: fetch and verify inputs, run, upload and checksum outputs.

This package also runs where CTS is not installed. It imports the standard library, ``awscrt`` for
the checksum, and nothing of CTS outside itself, and it keeps to Python 3.9.
"""

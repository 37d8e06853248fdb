"""The example notebooks with the data that they use, and the small real tools that they register as ``host/...`` images."""

"""The operator's command ``cts``, one module for each noun; it works on the stores, also while every server is down."""

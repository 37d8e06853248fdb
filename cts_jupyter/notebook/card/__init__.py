"""What a notebook shows of CTS. The live card is the ES module in ``static/``."""

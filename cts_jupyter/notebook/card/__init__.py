"""The card of a job in a notebook. The live card is the ES module in ``static/``."""

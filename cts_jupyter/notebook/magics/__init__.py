"""The magic ``%cts``: it parses raw text, one parser per subcommand, and expands variables word by word."""

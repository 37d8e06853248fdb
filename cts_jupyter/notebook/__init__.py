"""What a person has in a kernel: jobs, tables, the card and %cts."""

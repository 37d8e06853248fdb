"""The card of a job in a notebook, as the kernel writes it; `labextension/` shows it live."""

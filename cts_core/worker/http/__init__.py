"""HTTP by the standard library, over connections that another thread can break."""

"""Where containers run: the site port and its adapters, one package a kind of site."""

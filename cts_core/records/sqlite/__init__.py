"""The record store on SQLite, one module a noun."""

"""The record store on MongoDB, one module a noun."""

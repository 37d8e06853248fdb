"""The record store on SQLite: one module for each noun, with the same names as in ``mongo``."""

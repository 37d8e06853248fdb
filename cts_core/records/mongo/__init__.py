"""The record store on MongoDB: one module for each noun, with the same names as in ``sqlite``."""

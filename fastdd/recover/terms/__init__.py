"""The terms that an objective is made of, one a file; base.py says what a term is."""

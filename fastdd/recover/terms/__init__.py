"""The terms of an objective, one a file."""

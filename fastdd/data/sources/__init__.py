"""Where images come from, one layout a file."""

"""Networks by name. Nothing here knows of teachers, students or data."""

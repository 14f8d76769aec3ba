"""What somebody does on purpose, and what comes of it."""

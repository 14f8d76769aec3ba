"""What a bad network does, and what answers it."""

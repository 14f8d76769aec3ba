"""`make demo`: agents meet at a relay, and you can read along."""

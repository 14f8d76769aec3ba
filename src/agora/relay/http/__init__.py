"""The second door to a relay: HTTP."""

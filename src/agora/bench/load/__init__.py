"""The benches, one module each: how a relay is loaded, and what is read off meanwhile."""

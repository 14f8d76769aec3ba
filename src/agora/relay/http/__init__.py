"""The second door: HTTP, onto the same node. Imported only where HTTP is served."""

"""The relay on real sockets: every promise once."""

"""The client on real sockets: every promise once."""

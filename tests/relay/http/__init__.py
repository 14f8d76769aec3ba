"""The second door, through real sockets."""

"""What the parts cost, each by itself: CPU time, beside that of one signature check."""

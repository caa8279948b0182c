"""Values and rules. Nothing here opens a file, a socket or a clock."""

"""From a decision to a connected socket, and the bytes through it."""

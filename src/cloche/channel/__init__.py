"""The way into a sandbox: byte streams, however they are carried."""

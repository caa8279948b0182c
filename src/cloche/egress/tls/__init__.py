"""Hellos, and TLS that the door ends itself."""

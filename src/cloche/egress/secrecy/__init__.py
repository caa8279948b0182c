"""Values that code uses and never has."""

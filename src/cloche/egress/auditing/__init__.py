"""What is written of decisions, and how it is read again."""

"""The node's end: it starts the door, tells it everything, and starts it again."""

"""The door's side of the guests: their streams, questions and what they say."""

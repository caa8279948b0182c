"""Requests and answers: parsed strictly, carried one by one, refused in words."""

"""A user's task, from beginning to end."""

"""Other people's clients against ours."""

"""Photos as people take them: objects on real and invented backgrounds, with the truth of what is cut out."""

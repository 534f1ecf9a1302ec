"""A network that cuts the object that is meant out of any background."""

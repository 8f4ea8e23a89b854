"""How requests are read, refused and shown, and who may make them."""

"""Keys that wrap a sealed file's data key, one file each. ``registry.py`` opens them."""

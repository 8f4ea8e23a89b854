"""Backends, one file each: this folder's listing is what is supported. ``registry.py`` opens them."""

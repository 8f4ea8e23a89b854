"""Issuers, one file each. ``registry.py`` opens them."""

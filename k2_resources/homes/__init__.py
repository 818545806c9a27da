"""Homes that are backed up, restored or moved: tables copied and their paths written anew."""

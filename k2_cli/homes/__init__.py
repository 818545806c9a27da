"""A home backed up while it runs, and a home made of a backup."""

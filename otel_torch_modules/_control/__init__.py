"""The folder by which a running job and its user speak with each other: what its files say, and how they are written.

Each rank has a file, which says where it stands; the user has one, which asks for steps. Nobody believes the other's:
what is read is checked field by field, and bounded.
"""

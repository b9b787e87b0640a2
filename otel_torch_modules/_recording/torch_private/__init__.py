"""What is needed of torch that has no public name. ``make test-versions`` says on which versions it was checked.

Without one of these names there is no tracing: the import fails and the door says so once.
"""

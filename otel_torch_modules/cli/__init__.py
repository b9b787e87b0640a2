"""The command line: see the traces of a run without a server, and find out why there are none."""

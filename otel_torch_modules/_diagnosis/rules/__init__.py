"""The rules, each a function of a run that yields what it finds: a name, a threshold, evidence, a cost."""

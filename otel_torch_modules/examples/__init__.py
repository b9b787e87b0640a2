"""Training scripts that know nothing of tracing."""

"""Sources of traces, read into columns: files, a pipe, Jaeger, Tempo."""

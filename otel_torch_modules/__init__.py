"""One OpenTelemetry trace per PyTorch training step."""

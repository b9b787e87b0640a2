"""Runs as pictures, and in the formats of programs that draw them. Knows neither sources nor terminals."""

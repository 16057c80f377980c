"""Answers that wait: event streams and long polls."""

"""Requests for work: read, checked, stored, answered."""

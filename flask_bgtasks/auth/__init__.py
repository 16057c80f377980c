"""The owner of a request, what that owner may see, and how a login is kept for the run."""

"""bgtasks-client: the client at the shell."""

"""What is kept of a request so that its view can be called again: arguments, headers, body."""

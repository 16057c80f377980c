"""What is read from a request under the library's addresses."""

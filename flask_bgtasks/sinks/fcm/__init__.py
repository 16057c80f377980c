"""Firebase Cloud Messaging: the messages to devices, and the client that sends them."""

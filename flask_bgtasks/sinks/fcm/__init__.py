"""Firebase Cloud Messaging: what is sent to a device, and the one door through which it goes."""

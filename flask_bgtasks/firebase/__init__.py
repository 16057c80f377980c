"""Firebase, for the parts that speak with it: credentials, what the SDK can do, Firestore."""

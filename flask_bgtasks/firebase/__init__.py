"""What all users of Firebase share: credentials, the features of the SDK, Firestore."""

"""What the Firestore sink, its commands and its readers share: the client, the documents, the values, the rules."""

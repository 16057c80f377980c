"""What carries effects out: HTTP, event streams, threads, asyncio, Firestore."""

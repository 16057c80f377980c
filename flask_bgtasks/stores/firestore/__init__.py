"""The store on Cloud Firestore, for apps that have no SQL database."""

from .store import FirestoreStore

__all__ = ["FirestoreStore"]

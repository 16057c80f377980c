"""Announcements between the processes of an app: what one commits wakes those of the others that wait for it.

A hint, never an authority: what is announced is in the store, and whoever hears nothing finds it there by polling.
"""

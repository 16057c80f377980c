"""The store protocol, one part a file. :class:`flask_bgtasks.stores.base.Store` puts the parts together.

Code that needs one part asks for that part, so a test double implements only that.
"""

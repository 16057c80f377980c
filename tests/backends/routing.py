"""Werkzeug compiles two functions for each rule; of a suite's thousands of apps all have the same rules."""

from werkzeug.routing.rules import Rule


def compile_rules_once():
    """Keep compiled builders of addresses for the next app: they depend on nothing but their rule's parts.

    They make two thirds of what `init_app` costs (35 ms of 49), and a test makes an app.
    """
    compile_builder, known = Rule._compile_builder, {}

    def compile_once(self, append_unknown=True):
        if self.defaults:
            return compile_builder(self, append_unknown)
        key = (*self._trace, append_unknown)
        if key not in known:
            known[key] = compile_builder(self, append_unknown)
        return known[key]

    Rule._compile_builder = compile_once

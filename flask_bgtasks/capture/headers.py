"""Which headers are kept: those of a request for its run, and those of an answer for later readers.

Both are allow lists: only the app knows which headers carry credentials, so a header that is not listed is not stored.
"""

from __future__ import annotations

REQUEST = frozenset(
    {
        # The form of the answer. Not Accept-Encoding: another client may read the answer.
        "accept",
        "accept-charset",
        "accept-datetime",
        "accept-language",
        "prefer",
        "idempotency-key",
        "save-data",
        "dnt",
        "sec-gpc",
        "upgrade-insecure-requests",
        # The body.
        "content-disposition",
        "content-digest",
        "content-encoding",
        "content-language",
        "content-location",
        "content-md5",
        "content-range",
        "content-type",
        "digest",
        "repr-digest",
        "transfer-encoding",
        # Conditions (RFC 9110, section 13): without them a run would overwrite what it was told to leave alone.
        "if-match",
        "if-modified-since",
        "if-none-match",
        "if-unmodified-since",
        # Who asks, and from where. Authorization and Cookie are no part of it, nor what a proxy says of the user.
        "from",
        "origin",
        "referer",
        "user-agent",
        "x-requested-with",
        "sec-ch-ua",
        "sec-ch-ua-mobile",
        "sec-ch-ua-platform",
        "sec-ch-prefers-color-scheme",
        "sec-ch-prefers-reduced-motion",
        "sec-fetch-dest",
        "sec-fetch-mode",
        "sec-fetch-site",
        "sec-fetch-user",
        # The way here: proxies, as ProxyFix and apps read them.
        "forwarded",
        "via",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-port",
        "x-forwarded-prefix",
        "x-forwarded-proto",
        "x-forwarded-server",
        "x-forwarded-ssl",
        "x-real-ip",
        "x-client-ip",
        "x-cluster-client-ip",
        "x-original-uri",
        "x-original-url",
        "cf-connecting-ip",
        "cf-ipcountry",
        "cf-ray",
        "cf-visitor",
        "fastly-client-ip",
        "fly-client-ip",
        "fly-region",
        "true-client-ip",
        # The trace that the run belongs to: W3C Trace Context and Baggage, and what tracers had before.
        "baggage",
        "traceparent",
        "tracestate",
        "b3",
        "x-b3-traceid",
        "x-b3-spanid",
        "x-b3-parentspanid",
        "x-b3-sampled",
        "x-amzn-trace-id",
        "x-cloud-trace-context",
        "x-correlation-id",
        "x-datadog-parent-id",
        "x-datadog-sampling-priority",
        "x-datadog-trace-id",
        "x-request-id",
        "sentry-trace",
        "request-id",
        # Sent by libraries that load parts of a page.
        "hx-boosted",
        "hx-current-url",
        "hx-history-restore-request",
        "hx-prompt",
        "hx-request",
        "hx-target",
        "hx-trigger",
        "hx-trigger-name",
        "turbo-frame",
        "x-inertia",
        "x-inertia-partial-component",
        "x-inertia-partial-data",
        "x-inertia-version",
        "x-pjax",
        "x-up-target",
        "x-up-version",
        "x-http-method-override",
    }
)
"""Of a request."""

HOP_BY_HOP = frozenset(
    {
        "accept-encoding",
        "cache-control",
        "connection",
        "content-length",
        "date",
        "expect",
        "host",
        "if-range",
        "keep-alive",
        "max-forwards",
        "pragma",
        "priority",
        "range",
        "te",
        "trailer",
        "upgrade",
    }
)
"""Not kept, and nothing that a view could miss: they are between a client, its proxies and the server."""

CONDITIONAL = frozenset({"if-modified-since", "if-none-match"})
"""Not kept of a GET or HEAD: a ``304`` is an answer to one client's cache, and no result that others can read."""

RESPONSE = (
    # What the content is.
    "Content-Disposition",
    "Content-Encoding",
    "Content-Language",
    "Content-Digest",
    "Content-Range",
    "Repr-Digest",
    "ETag",
    "Last-Modified",
    "Location",
    "Link",
    "Allow",
    "WWW-Authenticate",
    "Vary",
    # What a browser may do with it.
    "Content-Security-Policy",
    "Content-Security-Policy-Report-Only",
    "Cross-Origin-Embedder-Policy",
    "Cross-Origin-Embedder-Policy-Report-Only",
    "Cross-Origin-Opener-Policy",
    "Cross-Origin-Opener-Policy-Report-Only",
    "Cross-Origin-Resource-Policy",
    "Document-Policy",
    "Origin-Agent-Cluster",
    "Permissions-Policy",
    "Referrer-Policy",
    "Report-To",
    "Reporting-Endpoints",
    "X-Content-Type-Options",
    "X-Download-Options",
    "X-Frame-Options",
    "X-Permitted-Cross-Domain-Policies",
    "X-Robots-Tag",
    "X-XSS-Protection",
)
"""Of an answer, each with all its values: two policies are both in force. Cookies belong to the one answer that was
lost; ``Accept-Ranges`` speaks of an address that a stored answer does not have."""

INERT = frozenset(
    {
        "application/gzip",
        "application/json",
        "application/octet-stream",
        "application/pdf",
        "application/x-ndjson",
        "application/x-tar",
        "application/zip",
        "text/calendar",
        "text/csv",
        "text/event-stream",
        "text/markdown",
        "text/plain",
        "text/tab-separated-values",
        "text/vcard",
    }
)
"""Types in which a browser finds no script to run for a page, if it believes them (``nosniff``). Beside images, sound,
film and fonts. What is not known to be one of them may be HTML, or XML with a script in it."""

SANDBOX = (
    "sandbox; default-src 'none'; img-src 'self' data:; media-src 'self' data:; font-src 'self' data:; "
    "style-src 'self' 'unsafe-inline'; base-uri 'none'; form-action 'none'"
)
"""The policy of a stored answer that a browser would show as a page, and that has none of its own.

A view that answers a POST with HTML can be opened by a link once its answer is stored, so what somebody could do to
their own page only, they can show to others. ``sandbox`` without a word after it gives the page an origin of its own,
and lets no script run and no form be sent; the rest lets it look as it was made, and fetch nothing from elsewhere.
"""


def is_inert(content_type: str) -> bool:
    """Whether a browser runs nothing of an answer of this type.

    What is no single well-formed type is not: browsers read on where we would stop.
    """
    mimetype = content_type.partition(";")[0].strip().lower()
    main, slash, rest = mimetype.partition("/")
    if not slash or not rest or any(sign in mimetype for sign in ", \t\r\n\0"):
        return False
    if mimetype in INERT or (main == "application" and rest.endswith("+json")):
        return True
    # What ends in +xml is XML whatever stands before it (WHATWG MIME Sniffing, "XML MIME type").
    return main in ("audio", "font", "image", "video") and not rest.endswith(("+xml", "/xml"))

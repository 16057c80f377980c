def document(settings, *, root):
    return {"openapi": "3.1.0"}

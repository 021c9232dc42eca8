"""A catalog over HTTP: a page, a REST interface that OpenAI's clients speak too, and metrics.

`embedspace serve CATALOG` starts it. Needs the extra `serve`; importing this package loads none of its libraries.
"""

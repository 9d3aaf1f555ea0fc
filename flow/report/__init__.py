"""What a build found, for people and programs: one JSON document, as text, as Markdown and as a page.

In: what the stages found. Out: a `Report`; nothing is measured or judged here.
"""
